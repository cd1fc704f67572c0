"""Files and directories by descriptor: no name is looked up twice, and no link is followed.

A worker that runs steps as other users acts as root in directories that belong to them. By path, a
step could put a link in place of a directory between two calls; a descriptor stays what it is. What
already exists is never given to another owner: a step can move a foreign file into its directory.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
import sys
from contextlib import suppress

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# a pipe in the place of a file must not make the worker wait
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
DEEPEST = 64  # levels, one descriptor each; what lies deeper is moved up before it is emptied
Owner = tuple[int, int]
_numbers = itertools.count()


class folder:  # in lower case: it is called like a function; a generator costs twice as much
    """A descriptor of the directory `name` in the directory `within`; made readable if its owner
    may do that."""

    __slots__ = ("_fd",)

    def __init__(self, name: str | os.PathLike[str], within: int | None = None) -> None:
        self._fd = _open_folder(name, within)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)


def make_folder(name: str, within: int, mode: int = 0o700) -> int:
    """A new directory that is this process's: its descriptor."""
    os.mkdir(name, mode, dir_fd=within)
    fd = os.open(name, FOLDER, dir_fd=within)
    if os.fstat(fd).st_uid != os.geteuid():
        os.close(fd)
        raise OSError(errno.ESTALE, f"{name!r} was replaced while it was made")
    return fd


def give(fd: int, owner: Owner | None, mode: int | None = None) -> None:
    """Hand a directory that was just made to its owner, and close it."""
    try:
        if owner is not None:
            os.fchown(fd, *owner)
        if mode is not None:
            os.fchmod(fd, mode)
    finally:
        os.close(fd)


def write(name: str, data: bytes, within: int, owner: Owner | None = None) -> os.stat_result:
    """A new file of mode 0600 in place of what has this name, then it is the `owner`'s; what it
    then is."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=within)
    fd = os.open(name, FRESH, 0o600, dir_fd=within)
    try:
        write_all(fd, data)
        if owner is not None:
            os.fchown(fd, *owner)
        return os.fstat(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def remove(name: str, within: int | None, aside: str) -> None:
    """Remove a file, a link or a whole tree. `aside` is a directory of this process on the same
    file system, where what lies deep waits for its turn. Raises OSError."""
    waiting = [(name, within)]
    while waiting:
        _remove(*waiting.pop(), aside, waiting)


def _remove(
    name: str, within: int | None, aside: str, waiting: list[tuple[str, int | None]]
) -> None:
    if not stat.S_ISDIR(os.lstat(name, dir_fd=within).st_mode):
        os.unlink(name, dir_fd=within)
        return
    stack = [(name, *_enter(name, within, None))]
    device = os.fstat(stack[0][1]).st_dev
    try:
        while stack:
            here, fd, inner = stack[-1]
            if not inner:
                os.rmdir(here, dir_fd=stack[-2][1] if len(stack) > 1 else within)
                os.close(fd)
                stack.pop()
            elif len(stack) < DEEPEST:
                child = inner.pop()
                stack.append((child, *_enter(child, fd, device)))
            else:
                moved = f"{aside}/.deep-{os.getpid()}-{next(_numbers)}"
                os.rename(inner.pop(), moved, src_dir_fd=fd)
                waiting.append((moved, None))
    finally:
        for _, fd, _ in stack:
            os.close(fd)


def _enter(name: str, within: int | None, device: int | None) -> tuple[int, list[str]]:
    """Open a directory, remove its files, and return its descriptor and directories."""
    fd = _open_folder(name, within)
    try:
        found = os.fstat(fd)
        if device not in (None, found.st_dev):
            raise OSError(errno.EXDEV, f"{name!r} is on another file system")
        if found.st_mode & 0o700 != 0o700:
            os.fchmod(fd, 0o700)
        inner = []
        with os.scandir(fd) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    inner.append(entry.name)
                else:
                    os.unlink(entry.name, dir_fd=fd)
    except BaseException:
        os.close(fd)
        raise
    return fd, inner


def _open_folder(name: str | os.PathLike[str], within: int | None) -> int:
    try:
        return os.open(name, FOLDER, dir_fd=within)
    except PermissionError:
        _unlock(name, within)
        return os.open(name, FOLDER, dir_fd=within)


def _unlock(name: str | os.PathLike[str], within: int | None) -> None:
    if sys.platform != "linux":
        os.chmod(name, 0o700, dir_fd=within, follow_symlinks=False)
        return
    fd = os.open(name, os.O_PATH | FOLDER, dir_fd=within)
    try:
        os.chmod(f"/proc/self/fd/{fd}", 0o700)
    finally:
        os.close(fd)
