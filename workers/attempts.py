"""The attempts that this process has in hand, in all lanes, with their stop signals; and the
signals that end the process itself.

Slurm, a service manager or a container engine may signal all processes at once. A step that ends at
that moment did not end by itself, and its exit code proves nothing, not even 0.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from engine.orders import StepOutcome, Verdict

if TYPE_CHECKING:
    from apps.jobs.ledger import Claim

LOOK_EVERY_S = 0.01
SHORTEST_S, LONGEST_S, SHARE = 0.05, 1.0, 0.01
AROUND_S = 0.2
_SIGSET_BYTES = 128  # of the C library's type
BY_SIGNAL = frozenset(128 + number for number in (1, 2, 9, 15))
BY_SLURM = (
    "Slurm ended the allocation of this step (scancel, preemption, a lost node or the walltime)"
)
TOGETHER = "The worker and this step were told to end at the same time"

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
    # a consumer: it never ends by itself
    is_endless: bool = False

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
        self._live: dict[int, Attempt] = {}

    def open(self, claim: Claim, asked_at: float, gpus: tuple[str, ...] = ()) -> Attempt:
        attempt = Attempt(claim, asked_at, gpus=gpus)
        self._live[claim.attempt_id] = attempt  # one operation: no lock needed
        return attempt

    def close(self, attempt: Attempt) -> None:
        del self._live[attempt.claim.attempt_id]

    def all(self, kind: str | None = None) -> list[Attempt]:
        live = list(self._live.values())
        return live if kind is None else [one for one in live if one.claim.owner_kind == kind]

    def names(self) -> frozenset[str]:
        return frozenset(attempt.name for attempt in self.all())

    def stop_endless(self, reason: Reason) -> None:
        """Signal those that nobody can wait for: others take them over at once."""
        for attempt in self.all():
            if attempt.is_endless:
                attempt.stop.set(reason)

    def stop_all(self, reason: Reason, kind: str | None = None, text: str = "") -> int:
        """Signal every attempt; returns their number."""
        attempts = self.all(kind)
        for attempt in attempts:
            attempt.stop.set(reason, text)
        return len(attempts)


class Eviction:
    """The signals that tell this worker to leave. `is_group_told`: whether others of its processes
    got one too."""

    def __init__(self, *, by_slurm: bool = False) -> None:
        """`by_slurm`: in an allocation, such a signal always means that its processes end."""
        self.is_by_slurm = by_slurm
        self._told_at: float | None = None
        self._signs: selectors.BaseSelector | None = None
        self.is_group_told: Callable[[], bool] = lambda: False

    @property
    def is_told(self) -> bool:
        return self._told_at is not None

    @property
    def text(self) -> str:
        """What to tell people about steps that end for this."""
        return BY_SLURM if self.is_by_slurm else ""

    def note(self) -> None:
        """The signal has come. Takes no lock: signal handlers call it."""
        self._told_at = time.monotonic()

    def listen(self) -> None:
        """Notice signals that have no handler yet because the main thread still has to run. Call in
        the main thread."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._signs = selectors.DefaultSelector()
        for fd in (reading, *_pending_signs()):
            self._signs.register(fd, selectors.EVENT_READ)

    def _is_under_way(self) -> bool:
        """Whether the signal was sent: one system call, at the end of each process."""
        return self._signs is not None and bool(self._signs.select(0))

    def judge(
        self, outcome: StepOutcome, began_at: float, ended_at: float | None = None
    ) -> StepOutcome:
        """The outcome of a process of this host that began and ended then; by default, it has just
        ended."""
        if outcome.verdict not in (Verdict.SUCCEEDED, Verdict.FAILED):
            return outcome
        why = self.explain(began_at, outcome.exit_code, ended_at)
        return outcome if why is None else StepOutcome(Verdict.LOST, outcome.exit_code, why)

    def explain(
        self, began_at: float, exit_code: int | None, ended_at: float | None = None
    ) -> str | None:
        """Why a process that began and ended then did not end by itself; else None."""
        if self.is_by_slurm:
            # Slurm signals one process after the other: the worker's turn may come a moment later.
            ran_s = time.monotonic() - began_at
            moment_s = LONGEST_S if exit_code else min(max(ran_s * SHARE, SHORTEST_S), LONGEST_S)
            _wait_for(lambda: self.is_told, moment_s)
            return BY_SLURM if self._told_since(began_at) else None
        if exit_code in BY_SIGNAL:
            _wait_for(lambda: self.is_told, AROUND_S)
        elif not self.is_told and self._is_under_way():
            _wait_for(lambda: self.is_told, LONGEST_S)
        if not self._told_since(began_at):
            return None
        is_ours = exit_code in BY_SIGNAL or self._is_same_moment(began_at, ended_at)
        return TOGETHER if is_ours or _wait_for(self.is_group_told, AROUND_S) else None

    def _is_same_moment(self, began_at: float, ended_at: float | None) -> bool:
        """Whether the process ended too near to the signal for chance: one in fifty, however long
        it ran."""
        assert self._told_at is not None
        moment_s = min((self._told_at - began_at) * SHARE, AROUND_S)
        return abs((ended_at or time.monotonic()) - self._told_at) <= moment_s

    def _told_since(self, began_at: float) -> bool:
        return self._told_at is not None and began_at <= self._told_at


def _wait_for(condition: Callable[[], bool], within_s: float) -> bool:
    until = time.monotonic() + within_s
    while not condition():
        if time.monotonic() >= until:
            return False
        time.sleep(LOOK_EVERY_S)
    return True


def _pending_signs() -> tuple[int, ...]:
    """A descriptor that can be read while TERM or INT is pending; none where there is no such
    thing."""
    make = getattr(ctypes.CDLL(None), "signalfd", None)
    if make is None:
        return ()
    numbers = sum(1 << (number - 1) for number in (signal.SIGTERM, signal.SIGINT))
    mask = (ctypes.c_ulong * (_SIGSET_BYTES // ctypes.sizeof(ctypes.c_ulong)))(numbers)
    fd = int(make(-1, mask, os.O_CLOEXEC | os.O_NONBLOCK))
    return (fd,) if fd >= 0 else ()
