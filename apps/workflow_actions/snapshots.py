"""What people see of the workflow actions of a job: four queries, however many actions there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any
from uuid import UUID

from django.db.models import Count, Q

from apps.fleet.models import Allocation, Worker
from apps.jobs import blueprints
from apps.jobs.models import Job
from apps.workflow_actions.models import ActionRun, JobAction
from apps.workflow_actions.watches import watch_of
from engine.durations import describe
from engine.workflow_actions import Watched

JSON = dict[str, Any]


def is_anything_left(job_ids: Collection[UUID]) -> bool:
    """Whether an action of these jobs was set off and has not ended."""
    return JobAction.objects.filter(job_id__in=job_ids, status__in=["held", "armed", "running"]).exists()


def actions_of(job: Job) -> list[JSON]:
    """The actions of every generation of the job, newest first: how far they are, and each of their runs."""
    rows = list(
        JobAction.objects.filter(job_id=job.pk)
        .annotate(total=Count("members"), reached=Count("members", filter=Q(members__reached_at__isnull=False)))
        .order_by("-generation", "index")
    )
    if not rows:
        return []
    watch = watch_of(blueprints.load(job.blueprint_id))
    runs, allocations = _runs(job.pk), _allocations(job.pk)
    return [_action(row, watch.actions[row.index], runs[row.pk], allocations[row.pk]) for row in rows]


def _runs(job_id: UUID) -> dict[int, list[JSON]]:
    rows = list(ActionRun.objects.filter(job_id=job_id).order_by("id"))
    names = dict(Worker.objects.filter(id__in={row.worker_id for row in rows}).values_list("id", "name"))
    found: dict[int, list[JSON]] = defaultdict(list)
    for row in rows:
        found[row.action_id].append(_run(row, names.get(row.worker_id)))
    return found


def _allocations(job_id: UUID) -> dict[int, list[JSON]]:
    found: dict[int, list[JSON]] = defaultdict(list)
    for row in Allocation.objects.filter(job_id=job_id).order_by("part", "number"):
        found[row.action_id].append(
            {
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
        )
    return found


def _action(row: JobAction, one: Watched, runs: list[JSON], allocations: list[JSON]) -> JSON:
    action = one.action
    shape: JSON = {
        "name": one.label,
        "index": row.index,
        "generation": row.generation,
        "trigger_type": row.trigger_type,
        "action_types": [doing["action_type"] for doing in action.do],
        "status": row.status,
        "reached": row.reached,  # type: ignore[attr-defined]
        "required": row.total,  # type: ignore[attr-defined]
        "may_grow": row.may_grow,
        "jobs": list(one.selected),
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
        "armed_at": row.armed_at,
        "ended_at": row.ended_at,
        "runs": runs,
    }
    return {**shape, "allocations": allocations} if allocations else shape


def _run(row: ActionRun, worker: str | None) -> JSON:
    ended, started = row.ended_at, row.started_at
    return {
        "id": row.pk,
        "attempt": row.number,
        "status": row.status,
        "session": row.session_id,
        "worker_id": row.worker_id,
        "worker": worker,
        "command": row.command,
        "exit_code": row.exit_code,
        "error": row.error or None,
        "due_at": row.due_at,
        "started_at": started,
        "ended_at": ended,
        "duration_secs": (ended - started).total_seconds() if ended and started else None,
    }
