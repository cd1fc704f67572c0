"""Directories that only this worker uses, and their removal, whatever a step left in them."""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
from pathlib import Path

from runners import anchored

log = logging.getLogger("stroem.worker")
TRIES = 3  # a process that is just being ended may still add files


def remove(path: Path) -> bool:
    """Remove a file, a link or a whole tree; never follows a link. `path` lies in a directory of
    this worker's, whatever owns what is in it. On failure, logs it and returns False."""
    for left in reversed(range(TRIES)):
        try:
            anchored.remove(str(path), None, str(path.parent))
        except FileNotFoundError:
            if not os.path.lexists(path):
                return True
        except OSError as error:
            if not left:
                log.warning("cannot remove %s: %s", path, error)
        else:
            return True
    return False


class WorkerDirectory:
    """The directory of one worker process in the cache; removes those of dead processes.

    Each process locks its own directory for life, so an unlocked one is a leftover.
    """

    def __init__(self, cache: Path, *, is_shared: bool) -> None:
        """`is_shared`: steps run as another user, who must be able to enter."""
        self._mode = 0o711 if is_shared else 0o700
        self.cache = cache
        cache.mkdir(mode=self._mode, parents=True, exist_ok=True)
        self._runs = self.folder(cache / "runs")
        self._sweep()
        name, self._lock = self._claim()
        self.root = self.folder(self._runs / name)
        self.trees = self.folder(self.root / "w")
        self.scratch = self.folder(self.root / "s")

    def folder(self, path: Path) -> Path:
        path.mkdir(mode=self._mode, exist_ok=True)
        return path

    def close(self) -> None:
        """Remove the directory and release its lock."""
        remove(self.root)
        lock = self._runs / f"{self.root.name}.lock"
        lock.unlink(missing_ok=True)
        os.close(self._lock)

    def _claim(self) -> tuple[str, int]:
        for number in itertools.count():
            name = f"{os.getpid():x}-{number}"
            fd = lock_file(self._runs / f"{name}.lock", is_blocking=False)
            if fd is not None:
                return name, fd
        raise AssertionError("unreachable")

    def _sweep(self) -> None:
        for lock in self._runs.glob("*.lock"):
            fd = lock_file(lock, is_blocking=False)
            if fd is None:
                continue
            remove(self._runs / lock.name.removesuffix(".lock"))
            lock.unlink(missing_ok=True)
            os.close(fd)


def lock_file(path: Path, *, is_blocking: bool = True, is_shared: bool = False) -> int | None:
    """Open and lock a file; None when another process holds it and `is_blocking` is False. Closing
    it releases the lock.

    Tries again if the file was removed meanwhile: such a lock protects nothing.
    """
    flags = (fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX) | (0 if is_blocking else fcntl.LOCK_NB)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, flags)
        except BlockingIOError:
            os.close(fd)
            return None
        try:
            if os.stat(path).st_ino == os.fstat(fd).st_ino:
                return fd
        except FileNotFoundError:
            pass
        os.close(fd)
