"""The jobs that this worker works for: what it does before its first step, and when it leaves."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from runners.base import StopSignal
from workers.attempts import Attempts
from workers.door import OUTAGES, VisitLedger

log = logging.getLogger("stroem.worker")
ASK_EVERY_S = 0.1
LOOK_EVERY_S = 1.0


@dataclass(slots=True)
class _Visit:
    """One session. `is_entered`: steps may start; `is_leaving`: actions on leaving are due;
    `generation`: of the job, as soon as a step tells it."""

    session_id: int
    worker_id: UUID
    generation: int = 0
    is_entered: bool = False
    is_leaving: bool = False


class Visits:
    """All sessions of this worker. Any thread may call `enter`; only slots of the actions' lane
    the rest."""

    def __init__(
        self,
        ledger: VisitLedger,
        worker_id: Callable[[], UUID | None],
        allocation_id: UUID | None,
        home: UUID | None = None,
    ) -> None:
        """`home`: the only job that this worker serves, if it is one."""
        self.home = home
        self._ledger = ledger
        self._worker_id = worker_id
        self._allocation_id = allocation_id
        self._lock = threading.Lock()
        self.by_job: dict[UUID, _Visit] = {}  # always this one: a lane looks into it
        self._looked_at = 0.0
        self._is_closing = False
        self.wake: Callable[[], None] = lambda: None  # makes the actions' lane look for work

    def enter(self, job_id: UUID, stop: StopSignal, generation: int = 0) -> None:
        """Return when the job's steps may start, or `stop` is set. A job that was restarted
        meanwhile is left first. Raises one of OUTAGES."""
        while self._is_yet_to_leave(job_id, generation) and stop.reason is None:
            self._ledger.released()
            self.wake()
            stop.wait(ASK_EVERY_S)
        visit = self._open(job_id, generation) if stop.reason is None else None
        while visit is not None and not visit.is_entered and stop.reason is None:
            self.wake()
            if self._ledger.is_entered(visit.session_id):
                visit.is_entered = True
                return
            self._ledger.released()
            stop.wait(ASK_EVERY_S)

    def _is_yet_to_leave(self, job_id: UUID, generation: int) -> bool:
        visit = self.by_job.get(job_id)
        if visit is None or visit.worker_id != self._worker_id():
            return False
        return visit.is_leaving or 0 < visit.generation < generation

    def _open(self, job_id: UUID, generation: int) -> _Visit | None:
        worker_id = self._worker_id()
        if worker_id is None:
            return None
        with self._lock:
            visit = self.by_job.get(job_id)
            if visit is None or visit.worker_id != worker_id or visit.is_leaving:
                session_id = self._ledger.enter(worker_id, job_id, self._allocation_id)
                if session_id is None:
                    return None
                visit = self.by_job[job_id] = _Visit(session_id, worker_id)
            visit.generation = visit.generation or generation
            return visit

    def look_after(self, attempts: Attempts) -> None:
        """Leave jobs that have ended and have no step running here, and forget those already left;
        once a second at most."""
        if not self.by_job:
            return
        worker_id = self._worker_id()
        now = time.monotonic()
        with self._lock:
            is_early = now - self._looked_at < LOOK_EVERY_S
            if worker_id is None or is_early or self._is_closing:
                return
            self._looked_at = now
        over = set(self._ledger.over(worker_id))
        claims = [attempt.claim for attempt in attempts.all("step")]
        busy = {(claim.job_id, claim.generation) for claim in claims}
        for job_id, visit in list(self.by_job.items()):
            if visit.worker_id != worker_id:  # counted as lost meanwhile; the platform ended it
                self.by_job.pop(job_id, None)
            elif visit.session_id in over and (job_id, visit.generation) not in busy:
                self._leave(visit, "the job has ended")
        self._forget_left()

    def leave_all(self, reason: str) -> None:
        """Leave every job, as this worker ends."""
        for visit in list(self.by_job.values()):
            self._leave(visit, reason)
        self._forget_left()

    def _leave(self, visit: _Visit, reason: str) -> None:
        if not visit.is_leaving:
            self._ledger.leave(visit.session_id, reason)
            visit.is_leaving = True
            self.wake()

    def _forget_left(self) -> None:
        for job_id, visit in list(self.by_job.items()):
            if visit.is_leaving and self._ledger.is_left(visit.session_id):
                self.by_job.pop(job_id, None)

    def leaves_actions(self, tag_set_ids: Sequence[int]) -> bool:
        """Whether actions of these tag sets wait for a worker of the only job, such as this one."""
        worker_id = self._worker_id()
        if self.home is None or worker_id is None:
            return False
        try:
            return self._ledger.leaves_actions(self.home, worker_id, tag_set_ids)
        except OUTAGES as error:
            log.warning("asking for actions of the job failed: %s", type(error).__name__)
            return False
        finally:
            self._ledger.released()

    def close(self, wait_s: float) -> None:
        """Leave every job and wait, at most `wait_s` seconds, for the actions on leaving."""
        deadline = time.monotonic() + wait_s
        self._is_closing = True
        try:
            while self.by_job:
                self.leave_all("the worker ends")
                if not self.by_job or time.monotonic() >= deadline:
                    return
                time.sleep(ASK_EVERY_S)
        except OUTAGES as error:
            log.warning(
                "leaving the jobs that this worker worked for failed: %s", type(error).__name__
            )
        finally:
            self._ledger.released()
