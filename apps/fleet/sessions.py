"""Worker sessions: which worker works on which job."""

from __future__ import annotations

from uuid import UUID

from apps.fleet import transitions as pen
from apps.fleet.models import WorkerSession
from engine.lifecycle import SessionStatus

LIVE = (SessionStatus.OPEN, SessionStatus.CLOSING)


def open_session(
    job_id: UUID, generation: int, worker_id: UUID, allocation_id: UUID | None = None
) -> tuple[WorkerSession, bool]:
    """The worker's session for this generation of the job, and whether it is new."""
    session_id = pen.open_session(job_id, generation, worker_id, allocation_id)
    found = WorkerSession.objects.get(job_id=job_id, generation=generation, worker_id=worker_id)
    return found, session_id is not None


def has_live(job_id: UUID, generation: int) -> bool:
    return WorkerSession.objects.filter(
        job_id=job_id, generation=generation, status__in=LIVE
    ).exists()
