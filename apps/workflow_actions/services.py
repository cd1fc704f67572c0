"""The doors of the room: what `jobs` calls when a job begins, moves or ends, and when a unit of an
action is claimed or ends. The handlers run in the transaction that holds the job's lock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from django.db.models import Func

from apps.fleet.models import Allocation, Worker, WorkerSession
from apps.jobs.door import output_dir_of, torc_names
from apps.jobs.flow import blueprints, contexts
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.jobs.ports import Rules, UnitRef
from apps.jobs.transitions import moves as step_pen
from apps.jobs.transitions import units
from apps.jobs.values import ActionMaterial, Claim
from apps.workflow_actions import aftermath, allocations, counting, runs, sessions
from apps.workflow_actions import transitions as pen
from apps.workflow_actions.models import Hold, JobAction, Member, Share
from apps.workflow_actions.watches import watch_of
from engine import workflow_actions
from engine.lifecycle import UNBEGUN_ACTION, ActionEventKind, AttemptEventKind, StepEventKind


def on_birth(job: Job, plan: Plan) -> None:
    """Arm a job's workflow actions, also after a restart."""
    counting.begin(job, plan)
    _settle_later(job.id)


def on_moves(job: Job, plan: Plan, moves: Sequence[tuple[str, StepEventKind]]) -> None:
    """Count steps that moved."""
    if counting.count_moves(job, plan, moves):
        _settle_later(job.id)


def on_end(job: Job, plan: Plan) -> None:
    """Set off what waits for the job's end, and give up nodes that are not needed any more."""
    if not job.has_actions:
        return
    counting.conclude(job, plan)
    sessions.settle_actions(job.id, job.generation)
    _give_up_nodes(job.id)
    _settle_later(job.id)


def on_cancel(job_id: UUID, actor: str, reason: str) -> None:
    """A cancelled job begins nothing new; its end still sets off its actions."""
    rows = JobAction.objects.filter(job_id=job_id, status__in=UNBEGUN_ACTION)
    ids = list(rows.exclude(trigger_type__in=runs.LASTING).values_list("id", flat=True))
    runs.drop_waiting(job_id, ids, "Job cancelled")
    for id in ids:
        if not runs.is_running(id):
            pen.move_action(id, ActionEventKind.CALLED_OFF, reason="Job cancelled")
    if ids:
        _settle_later(job_id)
    _give_up_nodes(job_id)


def _give_up_nodes(job_id: UUID) -> None:
    """Give up what is queued in Slurm for the job."""
    waiting = Allocation.objects.filter(job_id=job_id, ended_at=None, cancel_requested_at=None)
    waiting.update(cancel_requested_at=Func(function="clock_timestamp"))


def on_removal(job_ids: Sequence[UUID]) -> None:
    """Retention removes these jobs: remove their actions, sessions and allocations."""
    for model in (Member, Hold, JobAction, WorkerSession, Allocation):
        model.objects.filter(job_id__in=list(job_ids)).delete()


def has_action(job_id: UUID, action_id: int) -> bool:
    return JobAction.objects.filter(pk=action_id, job_id=job_id).exists()


def _settle_later(job_id: UUID) -> None:
    if JobAction.objects.filter(job_id=job_id, is_settled=False).exists():
        aftermath.after_commit(job_id)


# The units of actions: see `apps.jobs.ports.Owner`


def claimed(claim: Claim, worker_id: UUID) -> Claim:
    assert claim.owner_id is not None
    label = pen.claimed(claim.owner_id)
    worker = Worker.objects.filter(id=worker_id).values_list("name", flat=True).first()
    said = f"{label}, try {claim.number}" if claim.number > 1 else label
    step_pen.note(claim.job_id, "action_running", said, actor=worker or "")
    return replace(claim, owner_label=label)


def material(claim: Claim) -> ActionMaterial:
    assert claim.owner_id is not None
    job = Job.objects.select_related("revision", "workspace").get(id=claim.job_id)
    row = JobAction.objects.get(id=claim.owner_id)
    plan = blueprints.load(job.blueprint_id)
    one = watch_of(plan).actions[row.index]
    is_torc = plan.task.source_format == "torc"
    return ActionMaterial(
        do=one.action.do,
        timeout_s=claim.timeout_s,
        output_dir=output_dir_of(plan.task),
        environment=workflow_actions.environment(
            job_id=str(job.id),
            trigger=row.trigger_type,
            label=one.label,
            outcome=row.outcome or workflow_actions.outcome_of(row.trigger_type, ()),
            torc=torc_names(str(job.id)) if is_torc else {},
        ),
        masks=contexts.masks_of(job),
        action_id=row.id,
        only_nodes=runs.number_of(claim.step_name) > 0,
    )


def rules(unit: UnitRef) -> Rules:
    """No other worker can do a session's share."""
    one = runs.watched(JobAction.objects.get(id=unit.owner_id))
    is_shared = Share.objects.filter(unit_id=unit.id).exists()
    return Rules(workflow_actions.retry_of(one.action), not is_shared, retries_losses=False)


def ended(unit: UnitRef, event: StepEventKind, told: AttemptEventKind, error: str) -> None:
    row = JobAction.objects.get(id=unit.owner_id)
    is_shared = Share.objects.filter(unit_id=unit.id).exists()
    # an end that also ends the action appears with the action's move
    if is_shared or told in (AttemptEventKind.FAILED, AttemptEventKind.LOST):
        said = f"{row}, try {unit.number}"
        step_pen.note(unit.job_id, f"action_run_{told}", f"{said}: {error}" if error else said)
    is_again = told is not AttemptEventKind.SUCCEEDED and runs.is_again(unit.id)
    if is_again and event in (StepEventKind.FAILED, StepEventKind.CANCELLED):
        allocations.give_up([row.id])
    if event in (StepEventKind.RETRIED, StepEventKind.RETURNED):
        pen.move_action(row.id, ActionEventKind.RETURNED)
        if not is_shared:
            units.unbind(unit.id)
        return
    if runs.conclude(row, told, error):
        aftermath.after_commit(unit.job_id)
    elif not (is_shared and runs.is_bound(unit.id)):  # its session may have ended before
        sessions.settle_actions(unit.job_id, row.generation)
        _settle_later(unit.job_id)
