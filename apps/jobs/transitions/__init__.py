"""The pen: the only place that writes the status of a step, an attempt or a job.

`moves` settles, unblocks and moves, and notes what the server says of it; `claims` hands a ready
step to a worker and stores its log lines, which the same fence guards; `rows` writes the instances
of loops; `reopening` opens the next generation. Each statement that moves is guarded by the
statuses that the life-cycle table allows, and writes its event row.
"""
