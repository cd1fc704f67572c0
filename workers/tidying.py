"""Cleans up after a step while its report travels: the slot's thread waits for the database,
another thread removes files.

Each slot has its own tidier, so that no slot waits while another's million files are removed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

log = logging.getLogger("stroem.worker")


class Sweep:
    """One cleanup. `begin` it when the slot only waits; `wait` before using what it gives back."""

    __slots__ = ("_has_begun", "_is_over", "_queue", "_work")

    def __init__(self, work: Callable[[], None], queue: SimpleQueue[Sweep]) -> None:
        self._work = work
        self._queue = queue
        self._has_begun = False
        self._is_over = threading.Lock()
        self._is_over.acquire()

    def begin(self) -> None:
        """Start it in the other thread. Further calls do nothing."""
        if not self._has_begun:
            self._has_begun = True
            self._queue.put(self)

    def do(self) -> None:
        try:
            self._work()
        except Exception:
            log.exception("cleaning up after a step failed")
        finally:
            self._is_over.release()

    def wait(self) -> None:
        self.begin()
        with self._is_over:
            return


class Tidiers(threading.local):
    """One daemon thread for each calling thread."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Sweep] | None = None

    def sweep(self, work: Callable[[], None]) -> Sweep:
        """Prepare `work` to run in the tidier's thread."""
        if self._queue is None:
            self._queue = SimpleQueue()
            threading.Thread(target=_serve, args=(self._queue,), name="tidier", daemon=True).start()
        return Sweep(work, self._queue)


def _serve(queue: SimpleQueue[Sweep]) -> None:
    while True:
        queue.get().do()
