"""Stops a job in any state, because somebody cancels it or its time is up: waiting steps end at
once, running ones are told at the next renewal, children follow."""

from __future__ import annotations

from uuid import UUID

from apps.audit.services import note
from apps.jobs import ports
from apps.jobs.database.sql import retried
from apps.jobs.flow import blueprints, starting
from apps.jobs.flow.advance import Advance, advancing
from apps.jobs.models import Job
from apps.jobs.transitions import moves as pen
from apps.jobs.transitions import rows, stops
from apps.jobs.transitions.moves import Result
from engine.errors import Conflict, NotFound
from engine.lifecycle import OPEN_JOB, JobStatus, StepEventKind, StepStatus

WAITING = (StepStatus.PENDING, StepStatus.READY, StepStatus.SUSPENDED)


def cancel(job_id: UUID, *, actor: str, reason: str) -> None:
    """Cancel a job, then its children, each in a transaction of its own."""
    _cancel_one(job_id, actor, reason, is_noted=bool(actor))
    _cancel_children(job_id, actor, "Parent job cancelled")


def time_out(job_id: UUID) -> None:
    """Let a job fail whose time is up, and cancel its children. Does nothing if it has ended, or
    stops already."""
    if _time_out_one(job_id):
        _cancel_children(job_id, "", "Parent job timed out")


def forsake(job_id: UUID, reason: str) -> None:
    """Cancel a job that nobody waits for any more, unless it has ended."""
    try:
        cancel(job_id, actor="", reason=reason)
    except Conflict:
        return  # it has ended in the meantime


def _cancel_children(job_id: UUID, actor: str, reason: str) -> None:
    children = Job.objects.filter(parent_job_id=job_id, status__in=OPEN_JOB)
    for child_id in children.values_list("id", flat=True):
        try:
            _cancel_one(child_id, actor, reason)
            _cancel_children(child_id, actor, "Parent job cancelled")
        except Conflict:
            continue  # it has ended in the meantime


@retried
def _cancel_one(job_id: UUID, actor: str, reason: str, *, is_noted: bool = False) -> None:
    advance = advancing(job_id, blueprints.load)
    if advance is None:
        raise NotFound(f"Job {job_id} not found")
    if JobStatus(advance.state.status).is_final:
        raise Conflict("Job is already in a terminal state")
    if is_noted:
        where = Job.objects.values_list("workspace__name", flat=True).get(pk=job_id)
        note("job.cancel", job_id, by=actor, workspace=where, detail=reason)
    stops.stop(job_id, reason)
    _stop(advance, actor, reason, "Job cancelled")


@retried
def _time_out_one(job_id: UUID) -> bool:
    advance = advancing(job_id, blueprints.load)
    if advance is None or JobStatus(advance.state.status).is_final:
        return False
    reason = f"Job timed out after {starting.time_limit_of(advance.plan.task)}"
    if not stops.stop_in_time(job_id, reason):
        return False
    _stop(advance, "", reason, reason)
    return True


def _stop(advance: Advance, actor: str, reason: str, error: str) -> None:
    """End the waiting steps with `error`, and the job if nothing runs."""
    job_id = advance.state.id
    advance.mark_cancelling()
    waiting = rows.waiting_steps(job_id)
    if waiting:
        settled = pen.settle(
            job_id,
            waiting,
            StepEventKind.CANCELLED,
            Result(error=error),
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
