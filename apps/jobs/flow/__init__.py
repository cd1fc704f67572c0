"""The course of a job: creation, each advance, its end, and links from one job to another.

Belongs here: decisions about jobs and steps, inside the transaction that holds the job's lock. Does
not belong here: writing a status (`transitions`), time (`upkeep`), workers (`door`), pages.
"""
