"""A single Torc file as a workspace; its folder may hold data that workers should not receive."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from apps.workspaces.errors import LimitError, SourceError
from apps.workspaces.sources.tree import Limits, SourceFile, Tree
from engine.plain import plain


def read_file(path: Path, limits: Limits = Limits()) -> Tree:  # noqa: B008  (a frozen value)
    """The tree with only this file. Raises SourceError if it is not a regular file or too large."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as handle:
            found = os.fstat(handle.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise SourceError(f"{plain(path)} is not a regular file")
            if found.st_size > limits.bytes:
                raise LimitError(f"{plain(path)} is larger than {limits.bytes // 1_000_000} MB")
            content = handle.read(limits.bytes)
    except OSError as error:
        raise SourceError(
            f"{plain(path)} cannot be read: {(error.strerror or 'unknown reason').lower()}"
        ) from None
    return Tree((SourceFile(path.name, content),))
