"""Triggers of type `job`: a task starts when a job of another one ends.

The transaction that ends the job leaves a waiting firing for each of them; the scheduler goes on
with it. So nothing is lost, and the end of a job waits for nobody.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from apps.jobs.flow import contexts
from apps.jobs.flow.contexts import reveal
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.triggers import transitions
from apps.triggers.models import Firing, Trigger, TriggerQuerySet
from apps.triggers.occasions import UNTOUCHED, Occasion, waiting_row
from engine.lifecycle import JobStatus
from engine.spec.model import EVERYBODY


def on_end(job: Job, plan: Plan) -> None:
    """Leave a firing for each trigger that watches the job's task: those of the job's revision,
    and those of other workspaces to which it exports its ends. A failed job that will be retried
    has not ended yet."""
    if not plan.is_watched or job.retry_job_id is not None:
        return
    now = transitions.database_now()
    if plan.watched_by:
        rows = Trigger.objects.filter(
            workspace_id=job.workspace_id, name__in=plan.watched_by, watched=""
        )
        _leave(rows, job, _told_at_home(job), now)
    if plan.exported is not None:
        rows = Trigger.objects.filter(watched=f"{job.workspace.name}/{job.task_name}")
        if EVERYBODY not in plan.exported.to:
            rows = rows.filter(workspace__name__in=plan.exported.to)
        _leave(rows, job, _told_abroad(job, with_output=plan.exported.output), now)


def _leave(rows: TriggerQuerySet, job: Job, occasion: Occasion, now: datetime) -> None:
    for trigger in rows.live().filter(kind="job").order_by("pk"):
        on_job = trigger.definition["options"]["on_job"]
        if on_job["task"] == job.task_name and job.status in on_job["status"]:
            transitions.write(waiting_row(trigger, occasion, now, UNTOUCHED), now)


def _occasion(job: Job, about: dict[str, Any], hidden: tuple[str, ...] = ()) -> Occasion:
    key = f"{job.id}:{job.generation}"
    return Occasion(Firing.Cause.JOB, {"job": about}, key=key, hidden=hidden)


def _told_at_home(job: Job) -> Occasion:
    values, hidden = contexts.clear_input(job), contexts.hidden_of(job)
    output: Any = job.output
    if job.output_sealed is not None:
        output, more = reveal(job.output_sealed)
        hidden += more
    about = {
        **_outline(job),
        "source_type": job.source_type,
        "source_id": job.source_id,
        "error_message": job.error or None,
        "input": values,
        "output": output,
    }
    return _occasion(job, about, hidden)


def _told_abroad(job: Job, *, with_output: bool) -> Occasion:
    """Nothing that people may not see: who started the job, and with what, stays at home, and a
    secret in the output stays hidden."""
    result = {"output": job.output, "error_message": job.error or None} if with_output else {}
    return _occasion(job, {**_outline(job), **result})


def _outline(job: Job) -> dict[str, Any]:
    started = job.started_at or job.created_at
    ended = job.completed_at or started
    return {
        "workspace": job.workspace.name,
        "task_name": job.task_name,
        "job_id": str(job.id),
        "status": job.status,
        "is_success": job.status == JobStatus.COMPLETED,
        "started_at": _when(started),
        "completed_at": _when(ended),
        "duration_secs": (ended - started).total_seconds(),
    }


def _when(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
