"""What stands behind the worker's door, `apps.jobs.ledger`: what an attempt needs, which are alive.

Belongs here: what a worker asks or is told. Does not belong here: what follows for the job
(`flow`).
"""
