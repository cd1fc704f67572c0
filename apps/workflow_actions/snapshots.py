"""What people see of the workflow actions of a job: a fixed number of queries, however many actions
there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Q, QuerySet
from django.urls import reverse

from apps.fleet.models import Allocation, Worker
from apps.jobs.flow import blueprints, contexts
from apps.jobs.flow.redaction import shown
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.workflow_actions.models import ActionRun, JobAction
from apps.workflow_actions.watches import watch_of
from engine import workflow_actions
from engine.durations import describe
from engine.errors import NotFound
from engine.workflow_actions import Watched

JSON = dict[str, Any]
MOST = 200  # of the actions that an open page is told of
MOST_PARTS = 25  # of the runs and allocations of each of them
LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class Seen:
    """One action with everything that came of it."""

    row: JobAction
    one: Watched
    reached: int
    total: int
    runs: Sequence[ActionRun]
    workers: dict[UUID, str]
    allocations: Sequence[Allocation]

    @property
    def progress(self) -> str:
        """How far the steps are that it waits for, as `3 of 7 ready`; empty when it waits for
        none."""
        if not self.total and self.row.ended_at:
            return ""  # it was skipped before it watched anything
        return workflow_actions.progress_of(self.row.trigger_type, self.reached, self.total)


def is_anything_left(job_ids: Collection[UUID]) -> bool:
    """Whether an action of these jobs was set off and has not ended."""
    return JobAction.objects.filter(
        job_id__in=job_ids, status__in=["held", "armed", "running"]
    ).exists()


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
    """The actions of these jobs that have ended, but for those known already and those that were
    only skipped."""
    wanted = JobAction.objects.filter(
        job_id__in=list(job_ids), status__in=["succeeded", "failed", "cancelled"]
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
    """The actions of every generation of the job, newest first, or the one: four queries."""
    wanted = JobAction.objects.filter(
        job_id=job_id, **({} if action_id is None else {"pk": action_id})
    )
    rows = list(_counted(wanted).order_by("-generation", "index")[:most])
    if not rows:
        return []
    watch = watch_of(plan)
    runs: dict[int, list[ActionRun]] = defaultdict(list)
    for run in ActionRun.objects.filter(job_id=job_id, **_of(action_id)).order_by("id"):
        runs[run.action_id].append(run)
    ids = {run.worker_id for found in runs.values() for run in found if run.worker_id}
    workers = dict(Worker.objects.filter(id__in=ids).values_list("id", "name"))
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
            runs[row.pk],
            workers,
            allocations[row.pk],
        )
        for row in rows
    ]


def _counted(rows: QuerySet[JobAction]) -> Any:
    return rows.annotate(
        total=Count("members"),
        reached=Count("members", filter=Q(members__reached_at__isnull=False)),
    )


def _of(action_id: int | None) -> JSON:
    return {} if action_id is None else {"action_id": action_id}


def actions_of(job: Job) -> list[JSON]:
    """The actions of every generation of the job, newest first: how far they are, their runs and
    allocations.

    Secret values are masked, also in what an author wrote into commands.
    """
    if not job.has_actions:
        return []
    found = [action_json(seen) for seen in seen_of(job.pk, blueprints.load(job.blueprint_id))]
    masks = contexts.masks_of(job)
    return [shown(one, masks) for one in found]


def runs_called(job: Job, name: str) -> list[int]:
    """The runs, in every generation, of the action of this name; one without a name goes by its
    place (`0`) or by `workflow_actions[0]`. Raises NotFound."""
    watch = watch_of(blueprints.load(job.blueprint_id))
    labels = {one.label: one.index for one in watch.actions}
    index = labels.get(
        name, int(name) if name.isascii() and name.isdigit() and len(name) < 6 else None
    )
    if index is None or index >= len(watch.actions):
        known = f"; it has {', '.join(labels)}" if labels else ""
        raise NotFound(f"The job has no workflow action '{name[:100]}'{known}")
    runs = ActionRun.objects.filter(job_id=job.pk, action__index=index)
    return list(runs.order_by("id").values_list("pk", flat=True))


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
        "timeout": describe(action.timeout.seconds) if action.timeout else None,
        "commands": [command for doing in action.do for command in doing.get("commands", ())],
        "outcome": row.outcome or None,
        "reason": row.reason or None,
        "created_at": row.created_at,
        "armed_at": row.armed_at,
        "ended_at": row.ended_at,
        "runs": [_run(run, seen.workers) for run in seen.runs],
        "allocations": [_allocation(allocation) for allocation in seen.allocations],
    }


def _run(row: ActionRun, workers: dict[UUID, str]) -> JSON:
    ended, started = row.ended_at, row.started_at
    return {
        "id": row.pk,
        "attempt": row.number,
        "status": row.status,
        "session": row.session_id,
        "worker_id": row.worker_id,
        "worker": workers.get(row.worker_id) if row.worker_id else None,
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
        "nodes": row.nodes or None,
        "error": row.error or None,
        "script": row.script,
        "requested_at": row.requested_at,
        "submitted_at": row.submitted_at,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
    }


def briefs_of(job: Job) -> list[JSON]:
    """What an open page is told of each action whenever the job moves: in brief, the newest
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
        "is_open": row.status in ("held", "armed", "running"),
        "progress": seen.progress,
        "reached": seen.reached,
        "total": seen.total,
        "barrier": row.is_barrier,
        "reason": row.reason[:LONGEST_REASON],
        "runs": [_run_brief(run, seen.workers) for run in seen.runs[-MOST_PARTS:]],
        "run_count": len(seen.runs),
        "allocations": [_allocation_brief(one) for one in seen.allocations[-MOST_PARTS:]],
    }


def _run_brief(run: ActionRun, workers: dict[UUID, str]) -> JSON:
    return {
        "id": run.pk,
        "number": run.number,
        "status": run.status,
        "worker": workers.get(run.worker_id, "") if run.worker_id else "",
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
        "nodes": row.nodes,
        "submitted": _iso(row.submitted_at),
        "started": _iso(row.started_at),
        "ended": _iso(row.ended_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
