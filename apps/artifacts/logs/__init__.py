"""Log lines of jobs that have ended, compressed in the storage.

A *frame* is a run of a job's batches, compressed by itself; a *volume* is a blob of many frames,
often of many jobs of one workspace. Rows of frames are the index: which ids, steps, attempts and
times lie in it, and where. Belongs here: moving lines into volumes, reading them back, and their
retention. Not here: cursors, pages and the lines that are still in the database (`jobs.log`).
"""
