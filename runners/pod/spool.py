"""Keeps what a container has written until its lines are told.

A node throws away what is not read soon, and the teller may have to wait: for masking, for the
database. So the reader never waits for the teller; what is waiting lies in a file without a name.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import deque
from pathlib import Path
from typing import Literal

MOST_BYTES = 1 << 28
Mark = Literal["begin", "pause", "end"]


class Spool:
    """Chunks and marks, in order, from one thread to another."""

    def __init__(self, folder: Path) -> None:
        self.taken = 0  # chunks and marks so far
        self._folder = folder if folder.is_dir() else None
        self._changed = threading.Condition()
        # a mark or a chunk's size, and when it came
        self._waiting: deque[tuple[Mark | int, float | None]] = deque()
        self._file: int | None = None
        self._start = self._end = 0
        self._is_closed = False

    def mark(self, mark: Mark, came_at: float | None = None) -> None:
        with self._changed:
            self._waiting.append((mark, came_at))
            self._changed.notify_all()

    def put(self, data: bytes, came_at: float | None) -> None:
        """Keep `data`. Waits while MOST_BYTES lie here. Raises OSError."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._end - self._start < MOST_BYTES)
            if self._is_closed:
                return
            if self._file is None:
                self._file, path = tempfile.mkstemp(dir=self._folder)
                os.unlink(path)
            view = memoryview(data)
            while view:
                written = os.pwrite(self._file, view, self._end)
                self._end += written
                view = view[written:]
            self._waiting.append((len(data), came_at))
            self._changed.notify_all()

    def take(self) -> tuple[Mark | bytes, float | None] | None:
        """The next chunk or mark, and when it came; waits for it. None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self._waiting)
            if not self._waiting:
                return None
            what, came_at = self._waiting.popleft()
            self.taken += 1
            if isinstance(what, str):
                return what, came_at
            assert self._file is not None
            data = os.pread(self._file, what, self._start)
            self._start += what
            if self._start == self._end:
                self._start = self._end = 0
                os.ftruncate(self._file, 0)
            self._changed.notify_all()
            return data, came_at

    def close(self, *, drop: bool = False) -> None:
        """Nothing more comes. With `drop`, what still lies here is dropped."""
        with self._changed:
            self._is_closed = True
            if drop:
                self._waiting.clear()
            self._changed.notify_all()

    def remove(self) -> None:
        """Free the file, once both sides have ended."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
