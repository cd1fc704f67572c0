"""Files and state that steps leave behind, and log lines of jobs that have ended.

`blobs` keeps bytes in a storage of Django's, by their hash; `files` are a job's artifacts, `state`
is what tasks remember, and `logs` are lines for good. Rows say what exists: bytes without a row are
nothing, and go after the rows that named them. Not here: outputs, and the lines of open jobs, which
`jobs` has, and files of revisions.
"""
