"""What this worker holds: its row, its slots, its attempts in all lanes, their leases.

One statement every few seconds renews all attempts in hand and returns those that must stop. A
worker that cannot renew ends its steps before their leases run out; the guard does it for a frozen
worker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Literal, Protocol
from uuid import UUID

from apps.jobs.ledger import Claim, Renewal
from workers.config import WorkerConfig
from workers.door import OUTAGES, Ledger

log = logging.getLogger("stroem.worker")
SCHEMA_EVERY_S = 60.0
GLANCE_S = 1.0
Work = Callable[[], None]
TICK_S = 1.0  # the conductor looks for jobs out of time this often

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


class Slots:
    """Each slot does one piece of work at a time. Calls `on_free` when a slot becomes free after
    all were busy.

    Daemon threads, not `concurrent.futures`, which joins its threads when the interpreter ends: a
    draining worker must end in time even if a thread is stuck.
    """

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


class Beating(Protocol):
    """The part of the guard that is told about renewals."""

    def beat(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Timing:
    """Intervals in seconds, derived from the length of a lease."""

    lease_s: float
    renew_s: float
    give_up_s: float  # after the last renewal: the worker stops the step, leaving time for grace
    guard_margin_s: float  # before the lease's end: the guard kills the step

    @classmethod
    def of(cls, lease_s: float, stop_grace_s: float) -> Timing:
        """For 30 s: renew every 5 s, stop steps after 22 s; the guard kills them after 26 s."""
        guard_margin_s = min(4.0, lease_s / 5)
        spare_s = max(stop_grace_s, guard_margin_s) + lease_s / 10
        return cls(lease_s, lease_s / 6, lease_s - min(spare_s, lease_s / 2), guard_margin_s)


class Presence(threading.Thread):
    """Registers the worker and renews its leases, with its own thread and database connection."""

    def __init__(
        self,
        ledger: Ledger,
        config: WorkerConfig,
        attempts: Attempts,
        guard: Beating,
        timing: Timing,
        *,
        version: str,
        busy: Callable[[], int],
        job_id: UUID | None = None,
        offers: Mapping[str, float | int] | None = None,
    ) -> None:
        super().__init__(name="presence", daemon=True)
        self._ledger = ledger
        self._config = config
        self._attempts = attempts
        self._guard = guard
        self._timing = timing
        self._version = version
        self._busy = busy
        self._job_id = job_id
        self._offers = config.offers if offers is None else offers
        # called after every second renewal, on this thread
        self.after: Callable[[], None] = lambda: None
        self._closing = threading.Event()
        self._renewed_at = 0.0
        self._schema_checked_at = 0.0
        self._problem: str | None = None
        self._turn = 0
        self.worker_id: UUID | None = None

    @property
    def may_claim(self) -> bool:
        """Whether this worker may claim: it renewed recently and knows the database's schema."""
        if self.worker_id is None or self._problem is not None:
            return False
        return time.monotonic() - self._renewed_at < self._timing.lease_s / 2

    def register(self) -> bool:
        """Create the worker's row. Logs and returns False if the schema does not match. Raises one
        of OUTAGES."""
        if not self._is_schema_known():
            return False
        asked_at = time.monotonic()
        config = self._config
        self.worker_id = self._ledger.register(
            name=config.worker_name,
            tags=config.tags,
            slots=config.max_concurrent,
            version=self._version,
            offers=self._offers,
            job_id=self._job_id,
            workspaces=config.workspaces,
        )
        self._confirm(asked_at)
        told = {"worker": config.worker_name, "id": self.worker_id, "slots": config.max_concurrent}
        log.info("registered", extra={"fields": {**told, "tags": ",".join(config.tags)}})
        return True

    def close(self) -> None:
        self._closing.set()

    def run(self) -> None:
        away_since: float | None = None
        pause_s = self._timing.renew_s
        while not self._waited(pause_s):
            try:
                self._renew()
                if away_since is not None:
                    away_s = round(time.monotonic() - away_since, 1)
                    log.info("the database answers again", extra={"fields": {"away_s": away_s}})
                away_since, pause_s = None, self._timing.renew_s
            except OUTAGES as error:
                if away_since is None:
                    away_since = time.monotonic()
                    log.warning(
                        "the database does not answer (%s): check that it runs and can be reached;"
                        " running steps are ended after %g s without it",
                        _first_line(error),
                        self._timing.give_up_s,
                    )
                pause_s = min(1.0, self._timing.renew_s)
                self._ledger.released()
            except Exception:
                pause_s = min(1.0, self._timing.renew_s)
                log.exception("leases could not be renewed")
                self._ledger.released()
        self._ledger.released()

    def _waited(self, pause_s: float) -> bool:
        """Wait until the next renewal, or until a job in hand has run out of time. True if this
        worker closes."""
        due_at = time.monotonic() + pause_s
        while not self._closing.wait(max(0.0, min(due_at - time.monotonic(), GLANCE_S))):
            now = time.monotonic()
            if now >= due_at or any(attempt.should_hear(now) for attempt in self._attempts.all()):
                return False
        return True

    def watch(self) -> None:
        """Stop attempts that were not renewed for too long. Called from another thread, as this
        one may hang in a statement."""
        now = time.monotonic()
        for attempt in self._attempts.all():
            if now - attempt.renewed_at > self._timing.give_up_s and attempt.stop.reason is None:
                log.error(
                    "stopped: its lease could not be renewed; check the connection to the database",
                    extra=fields(attempt.claim),
                )
                attempt.stop.set("lost")

    def _renew(self) -> None:
        if self.worker_id is None:
            self.register()
            return
        attempts = self._attempts.all()
        live = {attempt.claim.attempt_id: attempt.claim.fence for attempt in attempts}
        progress = {one.claim.attempt_id: one.progress for one in attempts if one.progress}
        asked_at = time.monotonic()
        renewal = self._ledger.renew(self.worker_id, live, self._busy(), progress)
        if not renewal.is_known:
            log.warning("this worker was counted as lost: it ends its steps and registers again")
            self._attempts.stop_all("lost")
            self.worker_id = None
            self.register()
            return
        self._confirm(asked_at)
        for attempt in attempts:
            self._tell(attempt, renewal, asked_at)
        self._look_around()

    def _tell(self, attempt: Attempt, renewal: Renewal, asked_at: float) -> None:
        attempt_id = attempt.claim.attempt_id
        if attempt_id in renewal.lost:  # no effect if it has ended meanwhile
            attempt.stop.set("lost")
            return
        attempt.renewed_at = asked_at
        if attempt_id in renewal.cancelled:
            attempt.stop.set("cancel")

    def _confirm(self, asked_at: float) -> None:
        self._renewed_at = asked_at
        self._guard.beat()

    def _look_around(self) -> None:
        self._turn += 1
        if self._turn % 2 == 0:
            self.after()
        if time.monotonic() - self._schema_checked_at > SCHEMA_EVERY_S:
            self._is_schema_known()

    def _is_schema_known(self) -> bool:
        problem = self._ledger.schema_problem()
        self._schema_checked_at = time.monotonic()
        if problem is not None and problem != self._problem:
            log.error("this worker claims nothing: %s", problem)
        self._problem = problem
        return problem is None


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
