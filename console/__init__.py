"""What commands share: following a job, terminal output, typed input, the checks of `doctor`.
Commands reach the platform only through `port`, which `database` implements.

What does not belong here: running the platform (`standalone`), and rules about jobs (`apps`).
"""
