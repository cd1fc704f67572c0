"""The worker's row, the leases of its attempts, and what happens when they cannot be renewed.

One statement every few seconds renews all attempts in hand and returns those that must stop. A
worker that cannot renew ends its steps before their leases run out; the guard does it for a frozen
worker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from apps.jobs.ledger import Renewal
from workers.attempts import Attempt, Attempts, fields
from workers.config import WorkerConfig
from workers.door import OUTAGES, Ledger

log = logging.getLogger("stroem.worker")
SCHEMA_EVERY_S = 60.0
WATCH_S = 0.25
GLANCE_S = 1.0


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
