"""Walks a folder without following links: each entry is opened relative to the descriptor of its
parent. Links are kept as links, see `engine.links`."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from apps.workspaces.errors import SourceError
from apps.workspaces.sources.tree import Gatherer, Limits, Tree
from engine.plain import plain

NEVER = frozenset({".git", "__pycache__"})  # skipped without a warning
LEFT_OUT = frozenset({".venv", ".hg", ".svn", "node_modules"})
LEFT_OUT_AT_ROOT = frozenset({"var"})
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read_folder(path: Path, limits: Limits = Limits()) -> Tree:  # noqa: B008  (a frozen value)
    """Every regular file below `path`. Raises SourceError if the folder is missing or a limit is
    exceeded."""
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SourceError(f"there is no folder {plain(path)}") from None
    except NotADirectoryError:
        raise SourceError(f"{plain(path)} is a file; name its folder") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"the folder {plain(path)} cannot be read: {_reason(error)}") from None
    gatherer = Gatherer(limits, os.path.realpath(path))
    try:
        _walk(root, "", gatherer, 0)
    finally:
        os.close(root)
    return gatherer.tree()


def _walk(directory: int, prefix: str, gatherer: Gatherer, depth: int) -> None:
    if depth > gatherer.limits.depth:
        gatherer.leave_out(prefix, f"it lies more than {gatherer.limits.depth} folders deep")
        return
    for name in _names(directory, gatherer):
        path = f"{prefix}{name}"
        if name in NEVER or not gatherer.accepts(path):
            continue
        if name in LEFT_OUT or (depth == 0 and name in LEFT_OUT_AT_ROOT):
            gatherer.leave_out(path, "folders of this name are never part of a workspace")
            continue
        try:
            _take(directory, name, path, gatherer, depth)
        except OSError as error:
            gatherer.leave_out(path, f"it cannot be read: {_reason(error)}")


def _names(directory: int, gatherer: Gatherer) -> list[str]:
    names = []
    with os.scandir(directory) as entries:
        for entry in entries:
            gatherer.see()
            names.append(entry.name)
    return sorted(names)


def _take(directory: int, name: str, path: str, gatherer: Gatherer, depth: int) -> None:
    kind = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    if stat.S_ISLNK(kind):
        target = os.readlink(name, dir_fd=directory)
        gatherer.add_link(path, _inner(target, path, gatherer.root))
    elif stat.S_ISDIR(kind):
        inner = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            _walk(inner, f"{path}/", gatherer, depth + 1)
        finally:
            os.close(inner)
    elif stat.S_ISREG(kind):
        _read(directory, name, path, gatherer)
    else:
        gatherer.leave_out(path, "it is not a regular file")


def _inner(target: str, path: str, root: str) -> str:
    """An absolute target inside the folder, relative to the link; any other as it is."""
    if target == root or target.startswith(f"{root}/"):
        up = "../" * path.count("/")
        return f"{up}{target[len(root) :].lstrip('/')}" or "."
    return target


def _read(directory: int, name: str, path: str, gatherer: Gatherer) -> None:
    with os.fdopen(os.open(name, _FILE, dir_fd=directory), "rb") as handle:
        found = os.fstat(handle.fileno())
        if not stat.S_ISREG(found.st_mode):  # replaced since the check
            gatherer.leave_out(path, "it is not a regular file")
            return
        gatherer.room_for(path, found.st_size)
        content = handle.read(gatherer.limits.bytes + 1)
    gatherer.add(path, content, is_program=bool(found.st_mode & stat.S_IXUSR))


def _reason(error: Exception) -> str:
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
