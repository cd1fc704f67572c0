"""Tidying up behind a step while its report travels: the slot's thread waits for the database,
another one sweeps.

Each slot has a broom of its own, so that nobody waits until a neighbour's million files are gone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

log = logging.getLogger("stroem.worker")


class Sweep:
    """One piece of tidying. `begin` it when there is but to wait; `wait` for it before what it
    gives back is wanted."""

    __slots__ = ("_has_begun", "_is_over", "_queue", "_work")

    def __init__(self, work: Callable[[], None], queue: SimpleQueue[Sweep]) -> None:
        self._work = work
        self._queue = queue
        self._has_begun = False
        self._is_over = threading.Lock()
        self._is_over.acquire()

    def begin(self) -> None:
        """Have another thread do it, from now on. Once is enough."""
        if not self._has_begun:
            self._has_begun = True
            self._queue.put(self)

    def do(self) -> None:
        try:
            self._work()
        except Exception:
            log.exception("what a step left could not be tidied up")
        finally:
            self._is_over.release()

    def wait(self) -> None:
        self.begin()
        with self._is_over:
            return


class Tidiers(threading.local):
    """One daemon thread for each thread that asks."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Sweep] | None = None

    def sweep(self, work: Callable[[], None]) -> Sweep:
        """`work`, which is to be done beside the caller."""
        if self._queue is None:
            self._queue = SimpleQueue()
            threading.Thread(target=_serve, args=(self._queue,), name="tidier", daemon=True).start()
        return Sweep(work, self._queue)


def _serve(queue: SimpleQueue[Sweep]) -> None:
    while True:
        queue.get().do()
