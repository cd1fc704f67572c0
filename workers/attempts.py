"""The attempts that this process has in hand, in all lanes, with their stop signals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from apps.jobs.ledger import Claim

Reason = Literal["cancel", "drain", "lost", "walltime"]


class Stop:
    """A stop signal: set once, for one reason; calls back everything registered with `on_set`.

    `text`: what to tell people about the reason, if there is more to say.
    """

    __slots__ = ("_callbacks", "_event", "_lock", "_reason", "text")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reason: Reason | None = None
        self._callbacks: list[Callable[[], None]] = []
        self._event: threading.Event | None = None
        self.text = ""

    @property
    def reason(self) -> Reason | None:
        return self._reason

    def set(self, reason: Reason, text: str = "") -> None:
        with self._lock:
            if self._reason is not None:
                return
            self._reason, self.text = reason, text
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


TICK_S = 1.0  # the conductor looks for jobs out of time this often


@dataclass(slots=True, eq=False)
class Attempt:
    """One claim in hand. Times are on the monotonic clock; `renewed_at` is when the last confirmed
    renewal was requested. `progress` counts the commands that a workflow action has started."""

    claim: Claim
    renewed_at: float
    begun_at: float = field(default_factory=time.monotonic)
    stop: Stop = field(default_factory=Stop)
    # which of the worker's GPUs are its own
    gpus: tuple[str, ...] = ()
    progress: int = 0

    def should_hear(self, now: float) -> bool:
        """Whether its job has run out of time, so that the platform should say that it must
        stop."""
        ends_in_s = self.claim.job_ends_in_s
        if ends_in_s is None or self.stop.reason is not None:
            return False
        return now > self.begun_at + ends_in_s + TICK_S

    @property
    def name(self) -> str:
        """Identifies the attempt's containers, pods and processes."""
        return self.claim.name


def fields(claim: Claim, **more: Any) -> dict[str, Any]:
    """The `extra` argument of a log call about a claim."""
    known = {claim.owner_kind: claim.label, "job": claim.job_id, "attempt": claim.name}
    return {"fields": known | more}


class Attempts:
    """All attempts in hand, by id. Thread-safe. `kind` limits a call to steps, or to runs of
    workflow actions."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._live: dict[int, Attempt] = {}
        self._is_awaited = False

    def open(self, claim: Claim, asked_at: float, gpus: tuple[str, ...] = ()) -> Attempt:
        attempt = Attempt(claim, asked_at, gpus=gpus)
        self._live[claim.attempt_id] = attempt  # one operation: no lock needed
        return attempt

    def close(self, attempt: Attempt) -> None:
        del self._live[attempt.claim.attempt_id]
        if not self._live or self._is_awaited:
            with self._changed:
                self._changed.notify_all()

    def all(self, kind: str | None = None) -> list[Attempt]:
        live = list(self._live.values())
        return live if kind is None else [one for one in live if one.claim.owner_kind == kind]

    def names(self) -> frozenset[str]:
        return frozenset(attempt.name for attempt in self.all())

    def stop_all(self, reason: Reason, kind: str | None = None, text: str = "") -> int:
        """Signal every attempt; returns their number."""
        attempts = self.all(kind)
        for attempt in attempts:
            attempt.stop.set(reason, text)
        return len(attempts)

    def wait_until_none(self, timeout_s: float, kind: str | None = None) -> bool:
        self._is_awaited = True
        with self._changed:
            return self._changed.wait_for(lambda: not self.all(kind), timeout_s)
