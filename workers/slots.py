"""The slots: so many daemon threads, and a count of what they have to do.

Not `concurrent.futures`: its threads are joined when the interpreter ends, and a worker that drains
must end in time whatever a thread is stuck in.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

log = logging.getLogger("stroem.worker")
Work = Callable[[], None]


class Slots:
    """Does one piece of work a slot. `on_free` is called when, after all were busy, one is free
    again."""

    def __init__(self, size: int, on_free: Callable[[], None] = lambda: None) -> None:
        self.size = size
        self.on_free = on_free
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Work] = SimpleQueue()
        self._busy = 0
        self._threads = 0

    @property
    def free(self) -> int:
        return max(0, self.size - self._busy)

    @property
    def busy(self) -> int:
        return min(self.size, self._busy)

    def offer(self, work: Work) -> bool:
        """Do `work` at once in a free slot; False when there is none."""
        with self._lock:
            if self._busy >= self.size:
                return False
            self._take()
        self._queue.put(work)
        return True

    def submit(self, work: Work) -> None:
        """Do `work` as soon as a slot is free."""
        with self._lock:
            self._take()
        self._queue.put(work)

    def _take(self) -> None:
        self._busy += 1
        if self._threads < min(self._busy, self.size):
            self._threads += 1
            threading.Thread(target=self._serve, name=f"slot-{self._threads}", daemon=True).start()

    def _serve(self) -> None:
        while True:
            work = self._queue.get()
            try:
                work()
            except Exception:
                log.exception("a slot failed")
            finally:
                with self._lock:
                    self._busy -= 1
                    is_first_free = self._busy == self.size - 1
                if is_first_free:
                    self.on_free()
