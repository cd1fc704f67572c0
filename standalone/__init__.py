"""All of Stroem on one machine: database and broker from wheels, supervised processes, the private
platform of `run`. Production imports none of it.

What does not belong here: what commands show (`console`), and the processes themselves.
"""
