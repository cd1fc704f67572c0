"""The threads that do a lane's work: slots, and a tidier for each, which cleans up after a step
while the slot waits for the database to take the report.

Daemon threads, not `concurrent.futures`, which joins its threads when the interpreter ends: a
draining worker must end in time even if a thread is stuck. Each slot has its own tidier, so that no
slot waits while another's million files are removed.
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
