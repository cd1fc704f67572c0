"""Slots: daemon threads and a count of their work.

Not `concurrent.futures`, which joins its threads when the interpreter ends: a draining worker must
end in time even if a thread is stuck.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

log = logging.getLogger("stroem.worker")
Work = Callable[[], None]


class Slots:
    """Each slot does one piece of work at a time. Calls `on_free` when a slot becomes free after
    all were busy."""

    def __init__(self, size: int, on_free: Callable[[], None] = lambda: None) -> None:
        self.size = size
        self.on_free = on_free
        self._lock = threading.Lock()
        self._queue: SimpleQueue[Work] = SimpleQueue()
        self._idle = threading.Condition(self._lock)
        self._busy = 0
        self._threads = 0

    @property
    def free(self) -> int:
        return max(0, self.size - self._busy)

    @property
    def busy(self) -> int:
        return min(self.size, self._busy)

    def wait_until_idle(self, timeout_s: float) -> bool:
        """Whether no slot has any work, after at most `timeout_s` seconds."""
        with self._idle:
            return self._idle.wait_for(lambda: self._busy == 0, timeout_s)

    def offer(self, work: Work) -> bool:
        """Do `work` now in a free slot; False if all are busy."""
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
                    if self._busy == 0:
                        self._idle.notify_all()
                if is_first_free:
                    self.on_free()
