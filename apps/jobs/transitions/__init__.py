"""The pen: the only place that writes the status of a step, an attempt or a job.

`moves` settles, unblocks and moves; `claims` hands a ready step to a worker; `rows` writes the
instances of loops; `reopening` opens the next generation. Each statement is guarded by the statuses
that the life-cycle table allows, and writes its event row.
"""
