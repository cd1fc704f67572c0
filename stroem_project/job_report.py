"""One job as an operator reads it in a terminal: its steps, its workflow actions with their runs
and allocations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from apps.jobs.models import Job, Step
from apps.workflow_actions.snapshots import actions_of
from stroem_project.following.screen import clean

MOST_STEPS = 1000


def as_lines(job: Job) -> Iterator[str]:
    """The report, line by line; nothing of a job can steer the terminal."""
    place = f"{job.workspace.name}/{job.task_name}"
    yield (
        f"{job.pk}  {job.status}  {clean(place)}  "
        f"{_seconds(job.started_at, job.completed_at)}".rstrip()
    )
    yield from _error(job.error)
    rows = Step.objects.filter(job_id=job.pk).order_by("position", "loop_index", "id")
    total = rows.count()
    for name, status, started_at, completed_at, error in rows.values_list(
        "name", "status", "started_at", "completed_at", "error"
    )[:MOST_STEPS]:
        yield f"step    {status:<10}  {_seconds(started_at, completed_at):>9}  {clean(name)}"
        yield from _error(error)
    if total > MOST_STEPS:
        yield f"        and {total - MOST_STEPS} more steps"
    for action in actions_of(job):
        yield from _action(action)


def _action(action: Mapping[str, Any]) -> Iterator[str]:
    about = [action["trigger_type"], "+".join(action["action_types"])]
    about += [action["progress"]] if action["progress"] else []
    about += [f"generation {action['generation']}"] if action["generation"] > 1 else []
    yield f"action  {action['status']:<10}  {'':>9}  {clean(action['name'])} ({', '.join(about)})"
    if not any(run["error"] == action["reason"] for run in action["runs"]):
        yield from _error(action["reason"] or "")
    for run in action["runs"]:
        code = "" if run["exit_code"] is None else f", exit code {run['exit_code']}"
        where = f" on {run['worker']}" if run["worker"] else ""
        took = _seconds(run["started_at"], run["ended_at"])
        yield f"  run   {run['status']:<10}  {took:>9}  try {run['attempt']}{clean(where)}{code}"
        yield from _error(run["error"] or "")
    for one in action["allocations"]:
        number = f"Slurm job {one['slurm_job_id']}" if one["slurm_job_id"] else "not submitted"
        state = f", {one['state']}" if one["state"] else ""
        nodes = f" on {one['nodes']}" if one["nodes"] else ""
        took = _seconds(one["started_at"], one["ended_at"])
        yield (
            f"  nodes {one['status']:<10}  {took:>9} "
            f" {clean(one['scheduler'] + ': ' + number + state + nodes)}"
        )
        yield from _error(one["error"] or "")


def as_json(job: Job) -> str:
    """The same as one JSON object, as the API names things."""
    steps = Step.objects.filter(job_id=job.pk).order_by("position", "loop_index", "id")
    report = {
        "job_id": job.pk,
        "workspace": job.workspace.name,
        "task_name": job.task_name,
        "status": job.status,
        "error": job.error or None,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "completed_at": job.completed_at,
        "steps": [
            {
                "step_name": name,
                "status": status,
                "started_at": started,
                "completed_at": ended,
                "error": error or None,
            }
            for name, status, started, ended, error in steps.values_list(
                "name", "status", "started_at", "completed_at", "error"
            )
        ],
        "workflow_actions": actions_of(job),
    }
    return json.dumps(report, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _seconds(start: datetime | None, end: datetime | None) -> str:
    return f"{(end - start).total_seconds():.1f} s" if start and end else ""


def _error(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield f"          {clean(line)}"
