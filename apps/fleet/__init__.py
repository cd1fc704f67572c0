"""Workers seen, the tag sets that steps ask for, worker sessions, Slurm allocations."""
