"""Steps of type `task`: start a child job, and carry its end back to the parent's step."""

from __future__ import annotations

from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction

from apps.jobs import bells, ports
from apps.jobs.database.sql import retried
from apps.jobs.flow import blueprints, cancellation, starting
from apps.jobs.flow.advance import advancing
from apps.jobs.flow.contexts import blanked, redact
from apps.jobs.flow.starting import Origin
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.jobs.ports import Dispatch
from apps.jobs.transitions import moves as pen
from apps.jobs.transitions import rows
from apps.jobs.transitions.moves import Result
from apps.workspaces.models import Revision
from apps.workspaces.revisions import definition_of
from engine.errors import AuthorError
from engine.lifecycle import JobStatus, StepEventKind
from engine.spec.inputs import secret_fields

EVENTS = {
    JobStatus.COMPLETED: StepEventKind.SUCCEEDED,
    JobStatus.FAILED: StepEventKind.FAILED,
    JobStatus.CANCELLED: StepEventKind.CANCELLED,
}


def start_child(dispatch: Dispatch) -> None:
    """Start the child job of a step, in the parent's transaction."""
    task_name = dispatch.node.action.task
    assert task_name is not None
    depth = dispatch.job.depth + 1
    if depth > starting.MAX_DEPTH:
        raise AuthorError(
            f"Maximum task nesting depth ({starting.MAX_DEPTH}) exceeded for task '{task_name}'"
        )
    node = dispatch.node
    pen.move(
        dispatch.step_id,
        StepEventKind.DISPATCHED,
        deadline_s=node.timeout_s,
        input=redact(_blanked_input(dispatch, task_name), dispatch.masks),
    )
    origin = Origin(
        "task",
        f"{dispatch.job.id}/{dispatch.step_name}",
        dispatch.job.started_by_id,
        parent_job_id=dispatch.job.id,
        parent_step_id=dispatch.step_id,
        parent_step_name=dispatch.step_name,
        depth=depth,
        scheduled_at=dispatch.job.scheduled_at,
    )
    revision = Revision.objects.get(id=node.revision_of_action(dispatch.job.revision_id))
    try:
        child = starting.start_at(
            revision,
            task_name,
            dispatch.values,
            origin,
            priority=dispatch.job.priority,
            hidden=dispatch.hidden,
        )
    except AuthorError as error:
        message = redact(
            f"Failed to create child job for task '{task_name}': {error}", dispatch.masks
        )
        raise AuthorError(message) from None
    rows.adopt(dispatch.step_id, child.id)


def _blanked_input(dispatch: Dispatch, task_name: str) -> dict[str, Any]:
    revision_id = dispatch.node.revision_of_action(dispatch.job.revision_id)
    task = definition_of(revision_id).tasks.get(task_name)
    return blanked(dict(dispatch.values), secret_fields(task.input) if task else ())


@retried
def _advance_parent(child: Job) -> bool:
    """False if the parent's step has ended, runs again with another child, or is an agent's."""
    advance = advancing(child.parent_job_id, blueprints.load)  # type: ignore[arg-type]
    step_id = child.parent_step_id
    if advance is None or step_id is None or not rows.is_waiting_for(step_id, child.id):
        return False
    event = EVENTS[JobStatus(child.status)]
    error = f"Child job {child.id} {child.status}" + (f": {child.error}" if child.error else "")
    result = (
        Result(
            output=child.output,
            has_output=child.output is not None,
            output_sealed=bytes(child.output_sealed) if child.output_sealed is not None else None,
        )
        if event is StepEventKind.SUCCEEDED
        else Result(error=error)
    )
    if advance.state.is_cancelling and event is StepEventKind.FAILED:
        event = StepEventKind.CANCELLED
    # The child masks its own output: it knows every secret that its parent knows.
    advance.settle([step_id], event, result, base=rows.flow_name_of(step_id))
    advance.run()
    bells.ring_after_commit(advance.bells)
    return True


def tell_parent(child_id: UUID) -> None:
    """Carry the end of a child job to its parent's step. Safe to repeat."""
    child = Job.objects.get(id=child_id)
    if not _advance_parent(child):
        for caller in ports.callers():
            caller.ended(child)
    _stop_retry_with_parent(child)
    Job.objects.filter(id=child_id).update(parent_told=True)


def _stop_retry_with_parent(child: Job) -> None:
    """A cancel of the parent at this moment may have missed the run that follows this one."""
    if child.parent_job_id is None or child.retry_job_id is None:
        return
    parent = Job.objects.filter(id=child.parent_job_id).exclude(cancel_requested_at=None)
    if parent.exists():
        cancellation.forsake(child.retry_job_id, "Parent job cancelled")


def on_child_end(job: Job, plan: Plan) -> None:
    """After the child's end is committed, advance its parent; a sweep recovers if the process dies
    in between."""
    if job.parent_step_id is not None:
        transaction.on_commit(partial(tell_parent, job.id))
