"""Nodes from Slurm: which to request, what became of them, which to give up. Services open their
own transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from django.db.models import F

from apps.fleet import transitions as fleet_pen
from apps.fleet import vitals
from apps.fleet.models import Allocation
from apps.jobs.database.sql import fetch, fetch_one, retried
from apps.jobs.flow import blueprints
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.jobs.transitions import moves as step_pen
from apps.workflow_actions import directories, stranded
from apps.workflow_actions.models import JobAction
from apps.workflow_actions.watches import watch_of
from apps.workspaces.revisions import definition_of
from engine import slurm_script, slurm_states
from engine.errors import AuthorError
from engine.lifecycle import (
    OPEN_ALLOCATION,
    AllocationEventKind,
    AllocationStatus,
    JobStatus,
    StepStatus,
)
from engine.slurm_script import Launch, Request
from engine.spec.tags import ANY_SCHEDULER, SLURM_PREFIX

EVENTS = {
    AllocationStatus.PENDING: AllocationEventKind.QUEUED,
    AllocationStatus.ACTIVE: AllocationEventKind.RUNS,
    AllocationStatus.COMPLETE: AllocationEventKind.COMPLETED,
    AllocationStatus.FAILED: AllocationEventKind.FAILED,
    AllocationStatus.LOST: AllocationEventKind.LOST,
}
FORGOTTEN = "Slurm no longer knows this allocation"
# Workers that started in an allocation, and whether each left in order: one declared lost had been
# silent for the whole time-out, and its work for the job was lost with it.
WORKERS = """
SELECT w.name, coalesce(w.stopped_at - w.heartbeat_at < make_interval(secs => %(patience_s)s)
    AND NOT EXISTS (SELECT 1 FROM fleet_workersession s
        WHERE s.worker_id = w.id AND s.allocation_id = %(allocation)s AND s.status <> 'closed'),
            false)
FROM fleet_worker w WHERE w.job_id = %(job)s AND w.name LIKE %(names)s ORDER BY w.name
"""
USABLE = """
SELECT count(*) FROM jobs_step s JOIN fleet_tagset t ON t.id = s.tag_set_id
WHERE s.job_id = %s AND s.owner_kind = 'step' AND s.status = ANY(%s) AND t.tags && %s::varchar[]
"""
# Those in Slurm's queue for whose nodes the job has no step left that nobody runs.
SURPLUS = """
SELECT a.id FROM fleet_allocation a CROSS JOIN LATERAL (
    SELECT count(*) AS of_all, count(*) FILTER (WHERE s.status IN ('pending', 'ready')) AS unclaimed
    FROM jobs_step s JOIN fleet_tagset t ON t.id = s.tag_set_id
    WHERE s.job_id = a.job_id AND s.owner_kind = 'step'
        AND t.tags && ARRAY['slurm:' || a.scheduler, 'slurm:_any']::varchar[]
) steps
WHERE a.status = 'pending' AND a.cancel_requested_at IS NULL
    AND steps.of_all > 0 AND steps.unclaimed = 0
"""
SPACE = UUID("6f1d7a8e-3b52-4a53-9d53-0f2a6f3b7c11")  # namespace of allocation ids


@dataclass(frozen=True, slots=True)
class Submission:
    """An allocation that is still to be submitted. `tries`: how many submissions were begun
    before."""

    allocation_id: UUID
    name: str
    script: str
    tries: int
    worker_config: str
    clusters: tuple[str, ...] = ()  # those that may get it, if Slurm's programs must be told


@dataclass(frozen=True, slots=True)
class OpenAllocation:
    """An allocation in Slurm. `must_cancel`: it is not needed any more. `name`: of its Slurm job,
    because Slurm reuses job numbers."""

    allocation_id: UUID
    slurm_job_id: str
    status: str
    must_cancel: bool
    name: str = ""
    cluster: str = ""


@retried
def submissions(
    action_id: int, part: int, output_dir: str, launch: Launch, again: int = 0
) -> list[Submission] | None:
    """What item `part` of an action's `do` requests from Slurm and does not have yet; the first
    call creates the rows. None if the job is over and needs no nodes. `again`: it has requested
    nodes so many times before, and requests as many as ready steps can use.

    Raises AuthorError if the request cannot be built.
    """
    row = JobAction.objects.get(id=action_id)
    state = step_pen.lock(row.job_id)
    assert state is not None
    if JobStatus(state.status).is_final or state.is_cancelling:
        return None
    plan = blueprints.load(state.blueprint_id)
    doing = watch_of(plan).actions[row.index].action.do[part]
    scheduler = scheduler_of(plan, row.job_id, doing["scheduler"])
    for number in _numbers(row, part, doing, again):
        allocation_id = uuid5(SPACE, f"{action_id}/{part}/{number}")
        request = Request(
            str(row.job_id),
            str(allocation_id),
            doing["scheduler"],
            output_dir,
            doing["start_one_worker_per_node"],
            doing["max_parallel_jobs"],
        )
        script = slurm_script.build(scheduler, request, launch)
        fleet_pen.open_allocation(
            allocation_id, row.job_id, action_id, part, number, doing["scheduler"], script
        )
    waiting = Allocation.objects.filter(
        action_id=action_id, part=part, status=AllocationStatus.REQUESTED
    ).order_by("number")
    config = slurm_script.worker_config_of(scheduler, launch, doing["scheduler"])
    clusters = slurm_script.clusters_of(scheduler)
    found = [
        Submission(one.id, name_of(one), one.script, one.tries, config, clusters) for one in waiting
    ]
    waiting.update(tries=F("tries") + 1)
    return found


def _numbers(row: JobAction, part: int, doing: Mapping[str, Any], again: int) -> range:
    """The numbers of the allocations that a request makes."""
    count = doing["num_allocations"]
    if not again and row.generation == 1:
        return range(count)
    statuses = (StepStatus.READY,) if again else (StepStatus.PENDING, StepStatus.READY)
    usable = _count_usable(row.job_id, doing["scheduler"], statuses)
    if not again:  # a loop that is still to open counts as one step
        return range(count if usable else 0)
    first = again * count
    made = Allocation.objects.filter(action_id=row.id, part=part, number__gte=first).count()
    return range(first, first + (made or min(count, usable)))


def _count_usable(job_id: UUID, scheduler: str, statuses: Sequence[StepStatus]) -> int:
    """How many steps of the job are in these statuses and may run on nodes of the scheduler."""
    tags = [f"{SLURM_PREFIX}{scheduler}", f"{SLURM_PREFIX}{ANY_SCHEDULER}"]
    row = fetch_one(USABLE, (job_id, list(statuses), tags))
    return int(row[0]) if row else 0


def name_of(row: Allocation) -> str:
    return Request(str(row.job_id), str(row.id), row.scheduler, "").name


def scheduler_of(plan: Plan, job_id: UUID, name: str) -> Mapping[str, Any]:
    """The task's own scheduler with this name, else the workspace's."""
    if name in plan.task.slurm_schedulers:
        return plan.task.slurm_schedulers[name]
    found = definition_of(
        Job.objects.values_list("revision_id", flat=True).get(id=job_id)
    ).slurm_schedulers.get(name)
    if found is None:
        raise AuthorError(f"Slurm scheduler '{name}' not found")
    return found


def submitted(allocation_id: UUID, slurm_job_id: str, cluster: str = "") -> bool:
    """sbatch accepted the request. False if the nodes are not needed any more: the caller must
    cancel them."""
    _move(
        allocation_id,
        AllocationEventKind.SUBMITTED,
        state="PENDING",
        slurm_job_id=slurm_job_id,
        cluster=cluster[:100],
    )
    # it may already have begun
    return Allocation.objects.filter(id=allocation_id, status__in=OPEN_ALLOCATION).exists()


def refused(allocation_id: UUID, error: str) -> None:
    """sbatch rejected the request; it may be tried again."""
    waiting = Allocation.objects.filter(id=allocation_id, status=AllocationStatus.REQUESTED)
    if waiting.update(error=error):
        _note(allocation_id)


def begun(allocation_id: UUID, slurm_job_id: str, difference: str = "") -> None:
    """A worker has started in the allocation; a `difference` of its output directory is told."""
    _move(allocation_id, AllocationEventKind.BEGUN, state="RUNNING", slurm_job_id=slurm_job_id)
    row = Allocation.objects.filter(id=allocation_id).first()
    if difference and row is not None:
        step_pen.note(row.job_id, directories.DIFFERS, difference)


def to_follow() -> list[OpenAllocation]:
    """Allocations in Slurm that have not ended. Those in its queue that no step needs any more are
    given up first."""
    surplus = [row[0] for row in fetch(SURPLUS, ())]
    if surplus:
        waiting = Allocation.objects.filter(id__in=surplus, cancel_requested_at=None)
        waiting.update(cancel_requested_at=vitals.ClockTimestamp())
    rows = (
        Allocation.objects.filter(status__in=(AllocationStatus.PENDING, AllocationStatus.ACTIVE))
        .exclude(slurm_job_id="")
        .order_by("id")
    )
    return [
        OpenAllocation(
            one.id,
            one.slurm_job_id,
            one.status,
            one.cancel_requested_at is not None,
            name_of(one),
            one.cluster,
        )
        for one in rows[:5000]
    ]


def observed(allocation_id: UUID, state: str, *, nodes: str = "", reason: str = "") -> None:
    """Record Slurm's state of an allocation; empty if Slurm does not know it any more."""
    row = Allocation.objects.filter(id=allocation_id).first()
    if row is None:
        return
    if not state:
        error = _fate(row)
        event = AllocationEventKind.LOST if error else AllocationEventKind.COMPLETED
        _move(allocation_id, event, state=row.state, error=error)
        stranded.lose_workers(allocation_id)
        return
    was_cancelled = row.cancel_requested_at is not None
    status = AllocationStatus(slurm_states.status_of(state, was_cancelled=was_cancelled))
    error = (
        f"Slurm says {state}{f': {reason}' if reason else ''}"
        if status in (AllocationStatus.FAILED, AllocationStatus.LOST)
        else ""
    )
    waits_for = reason[:300] if status is AllocationStatus.PENDING else ""
    is_news = (status, state[:40], waits_for) != (row.status, row.state, row.reason)
    _move(
        allocation_id,
        EVENTS[status],
        is_news=is_news,
        state=state[:40],
        nodes=nodes[:500],
        error=error,
        reason=waits_for,
    )
    if is_news and status is not AllocationStatus.ACTIVE:
        stranded.lose_workers(allocation_id)


def _fate(row: Allocation) -> str:
    """The error of an allocation that Slurm has forgotten; empty if its workers left in order, or
    if it was not needed any more."""
    workers = fetch(
        WORKERS,
        {
            "allocation": row.id,
            "job": row.job_id,
            "names": f"slurm-{row.slurm_job_id}-%",
            "patience_s": vitals.gone_after_s(),
        },
    )
    lost = next((name for name, in_order in workers if not in_order), None)
    if lost is not None:
        return f"{FORGOTTEN}, and its worker {lost} did not leave in order"
    if workers or row.cancel_requested_at:
        return ""
    return (
        FORGOTTEN
        if row.status == AllocationStatus.PENDING
        else f"{FORGOTTEN}, and no worker started in it"
    )


def give_up(action_ids: Sequence[int]) -> None:
    """Give up the pending submissions of these ended actions."""
    waiting = Allocation.objects.filter(
        action_id__in=list(action_ids), status=AllocationStatus.REQUESTED
    )
    for allocation_id in waiting.values_list("id", flat=True):
        _move(allocation_id, AllocationEventKind.GIVEN_UP)


def _move(
    allocation_id: UUID, event: AllocationEventKind, *, is_news: bool = True, **values: Any
) -> None:
    """Move an allocation and add it to the job's history. Most polls of Slurm bring no news."""
    if fleet_pen.move_allocation(allocation_id, event, **values) and is_news:
        _note(allocation_id)


def _note(allocation_id: UUID) -> None:
    """Add the allocation's state to the job's history, which tells open pages to refresh."""
    row = Allocation.objects.get(id=allocation_id)
    said = row.scheduler
    if row.slurm_job_id:
        said += f" as Slurm job {row.slurm_job_id}"
    if row.nodes:
        said += f" on {row.nodes}"
    if row.error or row.reason:
        said += f": {row.error or slurm_states.why_waiting(row.reason)}"
    step_pen.note(row.job_id, f"allocation_{row.status}", said)
