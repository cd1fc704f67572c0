"""Reads the files of a workspace from a folder or a git repository, as plain bytes, within limits.

Nothing from a source is executed or checked out: no hooks, filters or submodules. No link is
followed. `tree` and `single` are part of the client too, so nothing here imports `git`.
"""
