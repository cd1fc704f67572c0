"""What people see of a job's workflow actions: a fixed number of queries for any number of
actions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet
from django.urls import reverse

from apps.fleet.models import Allocation
from apps.jobs.database.sql import fetch_named
from apps.jobs.flow import blueprints, contexts
from apps.jobs.flow.contexts import redact
from apps.jobs.models import Attempt, Job, Unit
from apps.jobs.plans import Plan
from apps.workflow_actions.models import JobAction
from apps.workflow_actions.watches import watch_of
from engine import slurm_states, workflow_actions
from engine.durations import describe
from engine.errors import NotFound
from engine.lifecycle import ActionStatus, AttemptStatus, StepStatus
from engine.workflow_actions import Watched

JSON = dict[str, Any]
RUNS = """
SELECT u.owner_id AS action_id, u.id AS unit_id, u.status AS unit_status, u.error AS unit_error,
    u.ready_at, u.retry_at, u.completed_at, h.session_id, a.id, a.status, a.worker_id,
    w.name AS worker, a.progress, a.exit_code, a.error, a.claimed_at, a.ended_at
FROM jobs_step u LEFT JOIN jobs_attempt a ON a.step_id = u.id
LEFT JOIN workflow_actions_share h ON h.unit_id = u.id
LEFT JOIN fleet_worker w ON w.id = a.worker_id
WHERE u.job_id = %s AND u.owner_kind = 'action' AND (%s::bigint IS NULL OR u.owner_id = %s)
ORDER BY u.id, a.fence
"""
WORDS: dict[str, str] = {
    StepStatus.PENDING: "ready",  # waits for its next try
    StepStatus.COMPLETED: "succeeded",
}
# Units never wait for a person and are never skipped; one waiting for its next try is ready.
NEVER_OF_RUNS = (StepStatus.READY, StepStatus.SUSPENDED, StepStatus.SKIPPED)
RUN_STATUSES = (
    *(WORDS.get(status, status.value) for status in StepStatus if status not in NEVER_OF_RUNS),
    AttemptStatus.LOST.value,
)
OPEN = (ActionStatus.HELD, ActionStatus.ARMED, ActionStatus.RUNNING)
MOST = 200  # actions sent to an open page
MOST_PARTS = 25  # runs, and allocations, sent for each
LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class Run:
    """One try of an action: an attempt of one of its units, or a unit that waits for its first
    attempt or ended without one. Those have no id."""

    id: int | None
    number: int
    status: str
    session_id: int | None
    worker_id: UUID | None
    worker: str | None
    command: int | None
    exit_code: int | None
    error: str
    due_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Seen:
    """One action with its runs and allocations."""

    row: JobAction
    one: Watched
    reached: int
    total: int
    runs: Sequence[Run]
    allocations: Sequence[Allocation]

    @property
    def progress(self) -> str:
        """How many of the awaited steps have got there, as `3 of 7 ready`; empty if it waits for
        none."""
        if not self.total and self.row.ended_at:
            return ""  # skipped before it watched anything
        return workflow_actions.progress_of(self.row.trigger_type, self.reached, self.total)


def is_anything_left(job_ids: Collection[UUID]) -> bool:
    """Whether an action of these jobs was set off and has not ended."""
    return JobAction.objects.filter(job_id__in=job_ids, status__in=OPEN).exists()


@dataclass(frozen=True, slots=True)
class Ended:
    """An action that has ended, in brief."""

    action_id: int
    job_id: UUID
    label: str
    status: str
    progress: str
    reason: str


def ended_actions(job_ids: Collection[UUID], known: Collection[int]) -> list[Ended]:
    """The ended actions of these jobs, without known ones and those only skipped."""
    wanted = JobAction.objects.filter(
        job_id__in=list(job_ids),
        status__in=(ActionStatus.SUCCEEDED, ActionStatus.FAILED, ActionStatus.CANCELLED),
    )
    wanted = wanted.exclude(pk__in=list(known))
    return [
        Ended(
            row.pk,
            row.job_id,
            str(row),
            row.status,
            workflow_actions.progress_of(row.trigger_type, row.reached, row.total),
            row.reason,
        )
        for row in _counted(wanted).order_by("ended_at", "pk")
    ]


def seen_of(
    job_id: UUID, plan: Plan, *, most: int | None = None, action_id: int | None = None
) -> list[Seen]:
    """The job's actions in all generations, newest first, or only one of them: three queries."""
    wanted = JobAction.objects.filter(
        job_id=job_id, **({} if action_id is None else {"pk": action_id})
    )
    rows = list(_counted(wanted).order_by("-generation", "index")[:most])
    if not rows:
        return []
    watch = watch_of(plan)
    runs = runs_of(job_id, action_id)
    allocations: dict[int, list[Allocation]] = defaultdict(list)
    for allocation in Allocation.objects.filter(job_id=job_id, **_of(action_id)).order_by(
        "part", "number"
    ):
        allocations[allocation.action_id].append(allocation)
    return [
        Seen(
            row,
            watch.actions[row.index],
            row.reached,
            row.total,
            runs.get(row.pk, ()),
            allocations[row.pk],
        )
        for row in rows
    ]


def runs_of(job_id: UUID, action_id: int | None = None) -> dict[int, list[Run]]:
    """The runs of the job's actions, by action: unit by unit, try by try."""
    found: dict[int, list[Run]] = defaultdict(list)
    rows = fetch_named(RUNS, (job_id, action_id, action_id))
    for _, of_unit in groupby(rows, key=attrgetter("unit_id")):
        tries = list(of_unit)
        found[tries[0].action_id] += _tries(tries)
    return found


def _tries(rows: list[Any]) -> Iterator[Run]:
    """The attempts of one unit, then the one it still waits for."""
    unit, number = rows[0], 1
    for row in rows:
        if row.id is None:
            continue
        status = AttemptStatus(row.status)
        yield Run(
            row.id, number, _word(status), row.session_id, row.worker_id, row.worker, row.progress,
            row.exit_code, row.error, row.claimed_at, row.claimed_at, row.ended_at,
        )  # fmt: skip
        number += status is not AttemptStatus.LOST
    if _has_more(unit, rows[-1]):
        due_at = unit.retry_at if unit.unit_status == StepStatus.PENDING else unit.ready_at
        ended_at = unit.completed_at
        error = unit.unit_error if ended_at else ""
        yield Run(
            None, number, _word(StepStatus(unit.unit_status)), unit.session_id, None, None, None,
            None, error, due_at or ended_at, None, ended_at,
        )  # fmt: skip


def _has_more(unit: Any, last: Any) -> bool:
    """Whether the unit waits for an attempt, or ended while it did."""
    if unit.unit_status in (StepStatus.PENDING, StepStatus.READY) or last.id is None:
        return True
    ends = (last.status, unit.unit_status)
    return (
        StepStatus(unit.unit_status).is_final
        and ends[0] != ends[1]
        and last.ended_at is not None
        and last.ended_at < unit.completed_at
    )


def _word(status: StepStatus | AttemptStatus) -> str:
    return WORDS.get(status, status.value)


def _counted(rows: QuerySet[JobAction]) -> Any:
    return rows.annotate(
        total=Count("members"),
        reached=Count("members", filter=Q(members__reached_at__isnull=False)),
    )


def _of(action_id: int | None) -> JSON:
    return {} if action_id is None else {"action_id": action_id}


def actions_of(job: Job) -> list[JSON]:
    """The job's actions in all generations, newest first: progress, runs and allocations. Secret
    values are masked, also in commands."""
    if not job.has_actions:
        return []
    found = [action_json(seen) for seen in seen_of(job.pk, blueprints.load(job.blueprint_id))]
    masks = contexts.masks_of(job)
    return [redact(one, masks) for one in found]


def actions_called(job: Job, name: str) -> list[int]:
    """The actions with this name, in all generations; an unnamed one goes by its place (`0`) or by
    `workflow_actions[0]`. Raises NotFound."""
    watch = watch_of(blueprints.load(job.blueprint_id))
    labels = {one.label: one.index for one in watch.actions}
    index = labels.get(
        name, int(name) if name.isascii() and name.isdigit() and len(name) < 6 else None
    )
    if index is None or index >= len(watch.actions):
        known = f"; it has {', '.join(labels)}" if labels else ""
        raise NotFound(f"The job has no workflow action '{name[:100]}'{known}")
    return list(JobAction.objects.filter(job_id=job.pk, index=index).values_list("pk", flat=True))


def has_run(job_id: UUID, action_ids: Collection[int], run_id: int) -> bool:
    """Whether the run belongs to one of these actions of the job."""
    units = Unit.objects.filter(job_id=job_id, owner_id__in=list(action_ids)).values("id")
    return Attempt.objects.filter(pk=run_id, step_id__in=units).exists()


def action_json(seen: Seen) -> JSON:
    row, action = seen.row, seen.one.action
    return {
        "id": row.pk,
        "name": seen.one.label,
        "index": row.index,
        "generation": row.generation,
        "trigger_type": row.trigger_type,
        "action_types": [doing["action_type"] for doing in action.do],
        "status": row.status,
        "progress": seen.progress or None,
        "reached": seen.reached,
        "required": seen.total,
        "may_grow": row.may_grow,
        "jobs": list(action.jobs),
        "job_name_regexes": list(action.job_name_regexes),
        "selected": list(seen.one.selected),
        "persistent": action.persistent,
        "barrier": action.barrier,
        "needs": list(action.needs),
        "when": action.when,
        "rerun": action.rerun,
        "on_failure": action.on_failure,
        "where": action.where,
        "timeout": describe(action.timeout.seconds) if action.timeout else None,
        "commands": [command for doing in action.do for command in doing.get("commands", ())],
        "outcome": row.outcome or None,
        "reason": row.reason or None,
        "created_at": row.created_at,
        "armed_at": row.armed_at,
        "ended_at": row.ended_at,
        "runs": [_run(run) for run in seen.runs],
        "allocations": [_allocation(allocation) for allocation in seen.allocations],
    }


def _run(row: Run) -> JSON:
    ended, started = row.ended_at, row.started_at
    return {
        "id": row.id,
        "attempt": row.number,
        "status": row.status,
        "session": row.session_id,
        "worker_id": row.worker_id,
        "worker": row.worker,
        "command": row.command,
        "exit_code": row.exit_code,
        "error": row.error or None,
        "due_at": row.due_at,
        "started_at": started,
        "ended_at": ended,
        "duration_secs": (ended - started).total_seconds() if ended and started else None,
    }


def _allocation(row: Allocation) -> JSON:
    return {
        "id": row.pk,
        "scheduler": row.scheduler,
        "status": row.status,
        "slurm_job_id": row.slurm_job_id or None,
        "state": row.state or None,
        "reason": slurm_states.why_waiting(row.reason) or None,
        "cluster": row.cluster or None,
        "nodes": row.nodes or None,
        "error": row.error or None,
        "script": row.script,
        "requested_at": row.requested_at,
        "submitted_at": row.submitted_at,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
    }


def briefs_of(job: Job) -> list[JSON]:
    """What open pages receive of each action whenever the job moves: in brief, the newest
    generation first."""
    return [_brief(seen) for seen in seen_of(job.pk, blueprints.load(job.blueprint_id), most=MOST)]


def _brief(seen: Seen) -> JSON:
    row = seen.row
    return {
        "id": row.pk,
        "index": row.index,
        "generation": row.generation,
        "name": seen.one.label,
        "url": reverse("workflow_action", args=[row.job_id, row.pk]),
        "trigger": row.trigger_type,
        "does": [doing["action_type"] for doing in seen.one.action.do],
        "status": row.status,
        "is_open": row.status in OPEN,
        "progress": seen.progress,
        "reached": seen.reached,
        "total": seen.total,
        "barrier": row.is_barrier,
        "reason": row.reason[:LONGEST_REASON],
        "runs": [_run_brief(run) for run in seen.runs[-MOST_PARTS:]],
        "run_count": len(seen.runs),
        "allocations": [_allocation_brief(one) for one in seen.allocations[-MOST_PARTS:]],
    }


def _run_brief(run: Run) -> JSON:
    return {
        "id": run.id,
        "number": run.number,
        "status": run.status,
        "worker": run.worker or "",
        "exit_code": run.exit_code,
        "started": _iso(run.started_at),
        "ended": _iso(run.ended_at),
    }


def _allocation_brief(row: Allocation) -> JSON:
    return {
        "id": str(row.pk),
        "scheduler": row.scheduler,
        "slurm": row.slurm_job_id,
        "status": row.status,
        "reason": slurm_states.why_waiting(row.reason),
        "nodes": row.nodes,
        "submitted": _iso(row.submitted_at),
        "started": _iso(row.started_at),
        "ended": _iso(row.ended_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
