"""Triggers of type `job`: a task starts when a job of another one ends.

The transaction that ends the job leaves a waiting firing for each of them; the scheduler goes on
with it. So nothing is lost, and the end of a job waits for nobody.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from apps.jobs.flow import contexts
from apps.jobs.flow.redaction import reveal
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.triggers import transitions
from apps.triggers.firing import UNTOUCHED, Occasion, waiting_row
from apps.triggers.models import Firing, Trigger
from engine.lifecycle import JobStatus


def on_end(job: Job, plan: Plan) -> None:
    """Leave a firing for each trigger of the job's revision that watches its task. A failed job
    that will be retried has not ended yet."""
    if not plan.watched_by or job.retry_job_id is not None:
        return
    watching = Trigger.objects.live().filter(
        workspace_id=job.workspace_id, name__in=plan.watched_by, kind="job"
    )
    now = transitions.database_now()
    for trigger in watching.order_by("pk"):
        on_job = trigger.definition["options"]["on_job"]
        if on_job["task"] == job.task_name and job.status in on_job["status"]:
            transitions.write(waiting_row(trigger, _occasion(job), now, UNTOUCHED), now)


def _occasion(job: Job) -> Occasion:
    values, hidden = contexts.clear_input(job), contexts.hidden_of(job)
    output: Any = job.output
    if job.output_sealed is not None:
        output, more = reveal(job.output_sealed)
        hidden += more
    started = job.started_at or job.created_at
    ended = job.completed_at or started
    about = {
        "workspace": job.workspace.name,
        "task_name": job.task_name,
        "job_id": str(job.id),
        "source_type": job.source_type,
        "source_id": job.source_id,
        "status": job.status,
        "is_success": job.status == JobStatus.COMPLETED,
        "error_message": job.error or None,
        "started_at": _when(started),
        "completed_at": _when(ended),
        "duration_secs": (ended - started).total_seconds(),
        "input": values,
        "output": output,
    }
    key = f"{job.id}:{job.generation}"
    return Occasion(Firing.Cause.JOB, {"job": about}, key=key, hidden=hidden)


def _when(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
