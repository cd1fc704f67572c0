"""Where an action's commands run: on the nodes of the job's allocations, or on any worker. Called
with the job locked.

Commands of a job with nodes run on them, beside its steps, if nodes are in sight when the action is
set off. If those are gone before a worker there has taken it, any worker may.
"""

from __future__ import annotations

from functools import partial
from uuid import UUID

from django.db import transaction

from apps.fleet import reach
from apps.fleet.models import Allocation
from apps.jobs import bells
from apps.jobs.flow import blueprints
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.jobs.transitions import moves as step_pen
from apps.jobs.transitions import units
from apps.workflow_actions.models import JobAction
from apps.workflow_actions.watches import watch_of
from engine import workflow_actions
from engine.lifecycle import (
    OPEN_ALLOCATION,
    UNENDED_ACTION,
    ActionStatus,
    AllocationStatus,
    JobStatus,
)
from engine.spec.slurm import asks_for_nodes
from engine.spec.tags import action_key
from engine.workflow_actions import Watched

NO_NODE = "No node is left, and none will come, to run this action (`where: nodes`)"
# Requests that are under way, or come with the job's first steps.
_SOON = (ActionStatus.ARMED, ActionStatus.RUNNING, ActionStatus.HELD)
_LATE = ("on_workflow_complete", "on_worker_complete")


def key_of(row: JobAction, one: Watched) -> str:
    """The tag set of the action's unit."""
    tags = workflow_actions.tags_of(one.action)
    return action_key((*tags, one.node_tag) if _is_on_nodes(row, one) else tags)


def _is_on_nodes(row: JobAction, one: Watched) -> bool:
    if not one.node_tag or one.action.where == "any" or asks_for_nodes(one.action):
        return False
    if workflow_actions.is_for_nodes(one) or workflow_actions.is_of_sessions(one.action):
        return workflow_actions.is_for_nodes(one)
    job = Job.objects.get(id=row.job_id)
    return _are_in_sight(job, blueprints.load(job.blueprint_id), row, one, later=False)


def release(unit_id: int, job_id: UUID, row: JobAction) -> str:
    """A unit waits for a worker on a node: let any worker take it if there will be none. Returns
    the reason if it can never run."""
    job = Job.objects.get(id=job_id)
    plan = blueprints.load(job.blueprint_id)
    one = watch_of(plan).actions[row.index]
    is_fixed = one.action.where == "nodes"
    if _are_in_sight(job, plan, row, one, later=is_fixed):
        return ""
    if is_fixed:
        return NO_NODE
    key = action_key(workflow_actions.tags_of(one.action))
    units.retag(unit_id, reach.tag_set_ids([key])[key])
    step_pen.note(
        job_id, "action_released", f"{one.label}: no node is left to run it; any worker may"
    )
    transaction.on_commit(partial(bells.ring, {key: 1}))
    return ""


def _are_in_sight(job: Job, plan: Plan, row: JobAction, one: Watched, *, later: bool) -> bool:
    """Whether the job has nodes, or will get some without waiting for this action. `later`: however
    late."""
    allocations = Allocation.objects.filter(job_id=job.id)
    if JobStatus(job.status).is_final:
        return allocations.filter(status=AllocationStatus.ACTIVE).exists()
    if allocations.filter(status__in=OPEN_ALLOCATION, cancel_requested_at=None).exists():
        return True
    rows = JobAction.objects.filter(
        job_id=job.id, generation=row.generation, status__in=UNENDED_ACTION
    )
    return any(
        _comes(plan, other, watch_of(plan).actions[other.index], one, later=later)
        for other in rows
        if asks_for_nodes(watch_of(plan).actions[other.index].action)
    )


def _comes(plan: Plan, row: JobAction, asking: Watched, one: Watched, *, later: bool) -> bool:
    """Whether this request is made without waiting for the action `one`."""
    if row.trigger_type in _LATE or workflow_actions.waits_for_action(plan.task, asking, one):
        return False
    if workflow_actions.is_of_sessions(asking.action):  # when another worker comes
        return later
    is_soon = row.status in _SOON or row.trigger_type == workflow_actions.STARTS
    return is_soon or later or _is_at_start(plan, row)


def _is_at_start(plan: Plan, row: JobAction) -> bool:
    """Whether all that the request waits for is to become ready with the job's first steps."""
    if row.trigger_type != workflow_actions.READY or row.may_grow:
        return False
    missing = row.members.filter(reached_at=None).values_list("step_name", flat=True)
    return all(name in plan.task.flow and not plan.task.flow[name].depends_on for name in missing)
