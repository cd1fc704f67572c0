"""Whose turn it is to ask a provider: in the order of coming, so many at a time and a minute."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from runners.agents.errors import ModelError, Stopped
from runners.base import StopSignal


@dataclass(eq=False, slots=True)
class _Ticket:
    wake: threading.Event = field(default_factory=threading.Event)
    is_called: bool = False


class Places:
    """Thread-safe. None: any number."""

    def __init__(self, count: int | None = None, per_minute: int | None = None) -> None:
        self._free = count
        self._gap_s = 60.0 / per_minute if per_minute else 0.0
        self._next_at = 0.0
        self._waiting: deque[_Ticket] = deque()
        self._lock = threading.Lock()

    @contextmanager
    def held(self, stop: StopSignal, ends_at: float) -> Iterator[None]:
        """Wait for a place, then for the moment to ask. Raises Stopped; ModelError when the time
        is over before."""
        self._take(stop, ends_at)
        try:
            self._pause(stop, ends_at)
            yield
        finally:
            self._give_back()

    def _take(self, stop: StopSignal, ends_at: float) -> None:
        ticket = _Ticket()
        with self._lock:
            self._waiting.append(ticket)
            self._call()
            if ticket.is_called:
                return
        stop.on_set(ticket.wake.set)
        left_s = ends_at - time.monotonic()
        ticket.wake.wait(max(0.0, left_s) if left_s < threading.TIMEOUT_MAX else None)
        with self._lock:
            if ticket.is_called:
                return
            self._waiting.remove(ticket)
        if stop.reason is not None:
            raise Stopped
        raise _late()

    def _call(self) -> None:
        while self._waiting and self._free != 0:
            if self._free is not None:
                self._free -= 1
            ticket = self._waiting.popleft()
            ticket.is_called = True
            ticket.wake.set()

    def _give_back(self) -> None:
        with self._lock:
            if self._free is not None:
                self._free += 1
            self._call()

    def _pause(self, stop: StopSignal, ends_at: float) -> None:
        if stop.reason is not None:
            raise Stopped
        if not self._gap_s:
            return
        with self._lock:
            begin_at = max(time.monotonic(), self._next_at)
            if begin_at >= ends_at:
                raise _late()
            self._next_at = begin_at + self._gap_s
        wait_s = begin_at - time.monotonic()
        if wait_s > 0 and stop.wait(wait_s):
            raise Stopped


def _late() -> ModelError:
    return ModelError("the step's time is over before the provider could be asked")
