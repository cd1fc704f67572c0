"""The units of an action: one for the job, or one for each worker session. Called with the job
locked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from apps.fleet import reach
from apps.fleet.models import Worker
from apps.jobs import bells
from apps.jobs.flow import blueprints
from apps.jobs.models import Job, Unit
from apps.jobs.transitions import units
from apps.workflow_actions import places
from apps.workflow_actions import transitions as pen
from apps.workflow_actions.models import JobAction, Share
from apps.workflow_actions.watches import watch_of
from engine import workflow_actions
from engine.lifecycle import ActionEventKind, AttemptEventKind, OwnerKind, StepEventKind, StepStatus
from engine.spec.tags import SUBMITS, action_key
from engine.workflow_actions import Watched

# A job's end sets these off even if it was cancelled.
LASTING = ("on_workflow_complete", "on_worker_complete", "on_jobs_complete")


AGAIN = "/again-"  # in the names of units that request an action's nodes once more


def watched(row: JobAction) -> Watched:
    plan = blueprints.load(Job.objects.values_list("blueprint_id", flat=True).get(id=row.job_id))
    return watch_of(plan).actions[row.index]


def of(action_ids: Collection[int]) -> QuerySet[Unit]:
    return Unit.objects.filter(owner_kind=OwnerKind.ACTION, owner_id__in=list(action_ids))


def is_running(action_id: int) -> bool:
    return of([action_id]).filter(status=StepStatus.RUNNING).exists()


def is_bound(unit_id: int) -> bool:
    return Unit.objects.filter(id=unit_id, bound_to__isnull=False).exists()


def lacking(worker_id: UUID, one: Watched) -> frozenset[str]:
    """The tags that the action requires and this worker lacks."""
    tags = Worker.objects.filter(id=worker_id).values_list("tags", flat=True).first()
    needed = workflow_actions.tags_of(one.action)
    if workflow_actions.is_for_nodes(one):
        needed = (*needed, one.node_tag)
    return frozenset(needed).difference(tags or ())


def add(
    row: JobAction, one: Watched, *, session_id: int | None = None, bound_to: UUID | None = None
) -> int | None:
    """Add a claimable unit, and ring for it after the commit; None if it exists. A worker that
    cannot call sbatch leaves it to one that can: workers on nodes cannot."""
    if bound_to is not None and SUBMITS in lacking(bound_to, one):
        bound_to = None
    key = places.key_of(row, one)
    timeout = one.action.timeout
    unit_id = units.add(
        row.job_id,
        OwnerKind.ACTION,
        row.id,
        f"{row.id}" if session_id is None else f"{row.id}/{session_id}",
        kind="nodes" if workflow_actions.only_asks(one.action.do) else "commands",
        tag_set_id=reach.tag_set_ids([key])[key],
        timeout_s=timeout.seconds if timeout else settings.STROEM.default_step_timeout_s,
        bound_to=bound_to,
        lasts=row.trigger_type in LASTING,
    )
    if unit_id is not None and session_id is not None:
        Share.objects.create(unit_id=unit_id, action_id=row.id, session_id=session_id)
    transaction.on_commit(partial(bells.ring, {key: 1}))
    return unit_id


def add_again(row: JobAction, number: int) -> None:
    """Add a claimable unit that requests the action's nodes once more, without its commands."""
    key = action_key((SUBMITS,))
    timeout = watched(row).action.timeout
    units.add(
        row.job_id,
        OwnerKind.ACTION,
        row.id,
        f"{row.id}{AGAIN}{number}",
        kind="nodes",
        tag_set_id=reach.tag_set_ids([key])[key],
        timeout_s=timeout.seconds if timeout else settings.STROEM.default_step_timeout_s,
    )
    transaction.on_commit(partial(bells.ring, {key: 1}))


def is_again(unit_id: int) -> bool:
    return Unit.objects.filter(id=unit_id, name__contains=AGAIN).exists()


def number_of(unit_name: str) -> int:
    """How many times nodes were requested before the request of this unit."""
    return int(unit_name.partition(AGAIN)[2] or 0)


def drop_waiting(job_id: UUID, action_ids: Sequence[int], error: str) -> None:
    """Cancel the units of these actions that have not begun."""
    waiting = of(action_ids).filter(status__in=units.WAITING).values_list("id", flat=True)
    units.drop(job_id, list(waiting), StepEventKind.CANCELLED, error)


def forsake(unit: Unit, error: str) -> None:
    """The only worker that could take the unit is gone: another may do an action of the job; a
    session's share fails."""
    assert unit.owner_id is not None
    row = JobAction.objects.get(id=unit.owner_id)
    if not Share.objects.filter(unit_id=unit.id).exists():
        units.unbind(unit.id)
        key = action_key(workflow_actions.tags_of(watched(row).action))
        transaction.on_commit(partial(bells.ring, {key: 1}))
    elif units.drop(
        unit.job_id, [unit.id], StepEventKind.FAILED, error
    ) and not workflow_actions.is_of_sessions(watched(row).action):
        settle_by_units(row)


def conclude(row: JobAction, told: AttemptEventKind, error: str) -> bool:
    """Continue after the last attempt of a unit. True if its action has ended."""
    one = watched(row)
    if workflow_actions.is_of_sessions(one.action):  # more sessions may come
        pen.move_action(row.id, ActionEventKind.RETURNED)
        has_failed = told in (AttemptEventKind.FAILED, AttemptEventKind.LOST)
        if has_failed and one.action.on_failure == "fail_job":
            JobAction.objects.filter(id=row.id).update(is_settled=False)
            return True
        return False
    if row.is_by_session:
        return settle_by_units(row)
    event = {
        AttemptEventKind.SUCCEEDED: ActionEventKind.SUCCEEDED,
        AttemptEventKind.CANCELLED: ActionEventKind.CANCELLED,
    }.get(told, ActionEventKind.FAILED)
    return pen.move_action(row.id, event, reason=error)


def settle_by_units(row: JobAction) -> bool:
    """End an action that several sessions do, once all its units have ended; it fails if one
    failed."""
    found = list(of([row.id]).order_by("id").values_list("status", "error"))
    if any(not StepStatus(status).is_final for status, _ in found):
        return False
    wrong = [error for status, error in found if status == StepStatus.FAILED]
    if wrong:
        return pen.move_action(row.id, ActionEventKind.FAILED, reason=wrong[-1])
    if not found:
        reason = "no worker took a step of this job"
        return pen.move_action(row.id, ActionEventKind.SKIPPED, reason=reason)
    is_done = any(status == StepStatus.COMPLETED for status, _ in found)
    return pen.move_action(
        row.id, ActionEventKind.SUCCEEDED if is_done else ActionEventKind.CANCELLED
    )
