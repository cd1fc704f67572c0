"""Files and state that steps leave behind.

`blobs` keeps bytes in a storage of Django's, by their hash; `files` are a job's artifacts and
`state` is what tasks remember. Rows say what exists: bytes without a row are nothing, and go after
the rows that named them. Not here: outputs and logs, which `jobs` has, and files of revisions.
"""
