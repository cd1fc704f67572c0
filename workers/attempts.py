"""The attempts that this process has in hand: their stop signals, and until when each may go on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from apps.jobs.ledger import Claim

Reason = Literal["cancel", "drain", "lost"]


class Stop:
    """A stop signal: set once, for one reason, heard by whoever asked to be told."""

    __slots__ = ("_callbacks", "_event", "_lock", "_reason")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reason: Reason | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._event: threading.Event | None = None

    @property
    def reason(self) -> Reason | None:
        return self._reason

    def set(self, reason: Reason) -> None:
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def wait(self, timeout_s: float) -> bool:
        if self._event is None:
            event = threading.Event()
            self._event = event
            self.on_set(event.set)
        return self._event.wait(timeout_s)

    def on_set(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if self._reason is None:
                self._callbacks.append(callback)
                return
        callback()


@dataclass(slots=True, eq=False)
class Attempt:
    """One claim in hand. `renewed_at` is when the last confirmed renewal was asked for, on the
    monotonic clock."""

    claim: Claim
    renewed_at: float
    stop: Stop = field(default_factory=Stop)
    # which of the worker's GPUs are its own
    environment: Mapping[str, str] = field(default_factory=dict)
    progress: int | None = None  # commands of a workflow action that were begun

    @property
    def name(self) -> str:
        """Names containers, pods and marks of processes."""
        return self.claim.name


class Attempts:
    """All of them, by attempt id. Any thread may ask."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._live: dict[int, Attempt] = {}

    def __len__(self) -> int:
        return len(self._live)

    def open(
        self, claim: Claim, asked_at: float, environment: Mapping[str, str] | None = None
    ) -> Attempt:
        attempt = Attempt(claim, asked_at, environment=environment or {})
        self._live[claim.attempt_id] = attempt  # one operation: no lock needed
        return attempt

    def close(self, attempt: Attempt) -> None:
        del self._live[attempt.claim.attempt_id]
        if not self._live:
            with self._changed:
                self._changed.notify_all()

    def all(self) -> list[Attempt]:
        return list(self._live.values())

    def names(self) -> frozenset[str]:
        return frozenset(attempt.name for attempt in self.all())

    def stop_all(self, reason: Reason) -> int:
        """Signal every attempt; answers how many there were."""
        attempts = self.all()
        for attempt in attempts:
            attempt.stop.set(reason)
        return len(attempts)

    def wait_until_none(self, timeout_s: float) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._live, timeout_s)
