"""Rings for other workers from a thread of its own: a finish never waits for the broker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from workers.door import Bells

log = logging.getLogger("stroem.worker")
# bells for one tag set at a time: each worker that finds work wakes its own slots, and the next
# worker
MOST = 8


class Ringer(threading.Thread):
    """Collects what is to be rung and publishes it; what comes while one round is under way is
    merged."""

    def __init__(self, bells: Bells) -> None:
        super().__init__(name="ringer", daemon=True)
        self._bells = bells
        self._lock = threading.Condition()
        self._wanted: dict[str, int] = {}
        self._is_closed = False

    def ring(self, keys: Mapping[str, int]) -> None:
        """Ring soon; never waits."""
        if not keys:
            return
        with self._lock:
            for key, count in keys.items():
                self._wanted[key] = min(MOST, max(count, self._wanted.get(key, 0)))
            self._lock.notify()

    def close(self, timeout_s: float = 1.0) -> None:
        """Ring what is left, within reason."""
        with self._lock:
            self._is_closed = True
            self._lock.notify()
        if self.is_alive():
            self.join(timeout_s)

    def run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._wanted or self._is_closed)
                wanted, self._wanted = self._wanted, {}
                if not wanted:
                    return
            self._bells.ring(wanted)
