"""What tasks and workspaces remember: a JSON object and files, in versions.

`keeping` writes versions and reads the newest one for steps, `history` is for people and programs,
`uploads` takes archives, `ledger` is the worker's way in. Values are masked, and sealed beside, as
outputs are. Not here: how lines become changes, and what a change would overwrite (the engine).
"""
