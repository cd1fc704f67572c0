"""Scratch directories: private, reused, empty but for the input when an attempt starts.

On a journaling file system, creating and removing a directory takes longer than a small step's
process. So directories are emptied instead, and the input file stays if the next attempt would
write the same bytes.
"""

from __future__ import annotations

import logging
import os
import secrets
import stat
import threading
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from runners import anchored
from workers.disk import WorkerDirectory, remove
from workers.trees import CLOCK, TICK_NS, Stamp, stamp_of

log = logging.getLogger("stroem.worker")
INPUT = "input.json"


@dataclass(slots=True, eq=False)
class Scratch:
    """One directory. `input_path` is the attempt's input as JSON, mode 0600."""

    path: Path
    input_path: Path
    owner: anchored.Owner | None = None
    data: bytes = b""
    stamp: Stamp | None = None
    taken_ns: int = 0
    is_secret: bool = False


class Scratches:
    """The scratch directories of one worker process. Thread-safe."""

    def __init__(self, directory: WorkerDirectory) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._idle: defaultdict[anchored.Owner | None, list[Scratch]] = defaultdict(list)

    def open(
        self, data: bytes, owner: anchored.Owner | None = None, *, is_secret: bool = False
    ) -> Scratch:
        """A directory of mode 0700 with `data` as its input file and nothing else; `owner`: the
        user and group that the step runs as, if not the worker's. Secret data does not outlive its
        attempt."""
        with self._lock:
            idle = self._idle[owner]
            scratch = idle.pop() if idle else None
        if scratch is None:
            path = self._directory.scratch / secrets.token_hex(6)
            os.mkdir(path, 0o700)
            if owner is not None:
                os.chown(path, *owner)
            scratch = Scratch(path, path / INPUT, owner)
        if scratch.data != data or scratch.stamp is None:
            self._write(scratch, data)
        scratch.is_secret = is_secret
        scratch.taken_ns = time.clock_gettime_ns(CLOCK)
        return scratch

    def close(self, scratch: Scratch) -> None:
        """Empty the directory for reuse; if that fails, remove it."""
        try:
            self._empty(scratch)
        except OSError as error:
            log.warning("emptying a scratch directory failed: %s", error)
            remove(scratch.path)
            return
        with self._lock:
            self._idle[scratch.owner].append(scratch)

    def _empty(self, scratch: Scratch) -> None:
        is_kept = False
        with anchored.folder(scratch.path) as fd:
            if stat.S_IMODE(os.fstat(fd).st_mode) != 0o700:
                os.fchmod(fd, 0o700)
            with os.scandir(fd) as entries:
                for entry in entries:
                    if entry.name == INPUT and self._may_stay(scratch, entry, fd):
                        is_kept = True
                    else:
                        anchored.remove(entry.name, fd, str(scratch.path.parent))
        if not is_kept:
            scratch.stamp, scratch.data = None, b""

    def _may_stay(self, scratch: Scratch, entry: os.DirEntry[str], within: int) -> bool:
        if scratch.is_secret or scratch.stamp is None:
            return False
        if stamp_of(entry.stat(follow_symlinks=False)) != scratch.stamp:
            return False
        if scratch.stamp[3] < scratch.taken_ns - TICK_NS:
            return True
        fd = os.open(entry.name, anchored.FILE, dir_fd=within)
        try:
            return os.read(fd, len(scratch.data) + 1) == scratch.data
        finally:
            os.close(fd)

    def _write(self, scratch: Scratch, data: bytes) -> None:
        scratch.stamp = None
        with anchored.folder(scratch.path) as fd:
            scratch.stamp = stamp_of(anchored.write(INPUT, data, fd, scratch.owner))
        scratch.data = data
