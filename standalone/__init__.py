"""All of Stroem on one machine: database and broker out of wheels, processes kept running, the
engine that `run` has to itself. Production imports nothing of it.

What does not belong here: what commands show (`console`), and the processes themselves.
"""
