"""The pure core: YAML to model, templates, DAG, life cycle, planner.

Belongs here: functions from values to values. Does not belong here: Django, a clock, a socket, a
file handle, randomness. `now`, ids and random numbers are arguments.
"""

VERSION = "0.1.0"  # of the whole product; keep in sync with pyproject.toml
