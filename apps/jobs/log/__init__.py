"""Log lines of jobs: stored in batches that may be sent twice, read by cursors that miss nothing.

Belongs here: chunks and cursors. Does not belong here: what a page or an answer looks like.
"""
