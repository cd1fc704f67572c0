"""Cancels a job in any state: waiting steps end at once, running ones are told at the next renewal,
children follow."""

from __future__ import annotations

from uuid import UUID

from apps.jobs import ports
from apps.jobs.database.sql import fetch, retried
from apps.jobs.flow import blueprints
from apps.jobs.flow.advance import advancing
from apps.jobs.models import Job
from apps.jobs.transitions import moves as pen
from apps.jobs.transitions import rows
from apps.jobs.transitions.moves import Result
from engine.errors import Conflict, NotFound
from engine.lifecycle import OPEN_JOB, JobStatus, StepEventKind, StepStatus

WAITING = (StepStatus.PENDING, StepStatus.READY, StepStatus.SUSPENDED)


def cancel(job_id: UUID, *, actor: str, reason: str) -> None:
    """Cancel a job, then its children, each in a transaction of its own."""
    _cancel_one(job_id, actor, reason)
    for child_id in Job.objects.filter(parent_job_id=job_id, status__in=OPEN_JOB).values_list(
        "id", flat=True
    ):
        try:
            cancel(child_id, actor=actor, reason="Parent job cancelled")
        except Conflict:
            continue  # it has ended in the meantime


@retried
def _cancel_one(job_id: UUID, actor: str, reason: str) -> None:
    advance = advancing(job_id, blueprints.load)
    if advance is None:
        raise NotFound(f"Job {job_id} not found")
    if JobStatus(advance.state.status).is_final:
        raise Conflict("Job is already in a terminal state")
    fetch(
        """
        UPDATE jobs_job SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()),
            cancel_reason = CASE WHEN cancel_reason = '' THEN %s ELSE cancel_reason END
                WHERE id = %s
        """,
        (reason, job_id),
    )
    advance.mark_cancelling()
    waiting = rows.waiting_steps(job_id)
    if waiting:
        settled = pen.settle(
            job_id,
            waiting,
            StepEventKind.CANCELLED,
            Result(error="Job cancelled"),
            actor=actor,
            sources=WAITING,
        )
        advance.absorb(settled)
        ports.cancelled(job_id, actor, reason)
        if advance.state.has_actions:
            advance.moves += [
                (base, StepEventKind.CANCELLED) for base in rows.cancelled_bases(waiting)
            ]
    advance.run(actor=actor)
