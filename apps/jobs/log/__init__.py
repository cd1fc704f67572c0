"""Log lines of jobs: stored in batches that may be sent twice, read with cursors that miss nothing.

Belongs here: chunks and cursors. Does not belong here: the format of pages and responses.
"""
