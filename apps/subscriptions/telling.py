"""Notes messages for subscribers, in the transaction of what they tell. Nothing is sent here.

A workspace without subscribers to an event costs no query: its row names the events.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.conf import settings

from apps.jobs.models import Job, Step
from apps.jobs.plans import Plan
from apps.jobs.ports import Suspension
from apps.subscriptions import transitions
from apps.subscriptions.values import LARGEST_OUTPUT, OF_APPROVALS, STEP_FAILED, content, shortened
from engine.lifecycle import JobStatus, StepStatus


def on_end(job: Job, plan: Plan) -> None:
    """A failed job that will be retried has not ended yet."""
    event = f"job.{job.status}"
    if job.retry_job_id is not None or not job.workspace.announces(event):
        return
    ended = job.completed_at or job.created_at
    data = {
        **_about(job),
        "error": shortened(job.error) or None,
        "started_at": _when(job.started_at or job.created_at),
        "completed_at": _when(ended),
    }
    body = content(event, _when(ended), data)
    full = content(event, _when(ended), {**data, **_output_of(job)})
    transitions.write(job.workspace_id, event, body, full, job=job.id)


def on_failures(job: Job, plan: Plan, names: Sequence[str]) -> None:
    """Steps of the flow have failed for good. The instances of a loop count as one step."""
    if not job.workspace.announces(STEP_FAILED):
        return
    rows = Step.objects.filter(
        job_id=job.id, name__in=set(names), loop_id=None, status=StepStatus.FAILED
    )
    for step in rows.order_by("position"):
        data = {
            **_about(job),
            "step": step.name,
            "error": shortened(step.error) or None,
            "is_tolerated": step.tolerates,
        }
        at = _when(step.completed_at or job.created_at)
        body = content(STEP_FAILED, at, data)
        transitions.write(job.workspace_id, STEP_FAILED, body, job=job.id)


def on_suspension(job: Job, plan: Plan, suspension: Suspension) -> None:
    """A person is asked, reminded, or somebody else is asked."""
    event = OF_APPROVALS[suspension.status]
    if not job.workspace.announces(event):
        return
    at = transitions.database_now()
    data = {
        **_about(job),
        "step": suspension.step_name,
        "message": shortened(suspension.message),
        "url": suspension.url,
    }
    transitions.write(job.workspace_id, event, content(event, _when(at), data), job=job.id)


def _about(job: Job) -> dict[str, Any]:
    return {
        "workspace": job.workspace.name,
        "task": job.task_name,
        "job_id": str(job.id),
        "parent_job_id": str(job.parent_job_id) if job.parent_job_id else None,
        "source_type": job.source_type,
        "status": job.status,
        "url": f"{settings.BASE_URL}/admin/jobs/job/{job.id}/change/",
    }


def _output_of(job: Job) -> dict[str, Any]:
    """As pages show it: secret values are masked."""
    if JobStatus(job.status) is not JobStatus.COMPLETED:
        return {}
    size = len(json.dumps(job.output).encode())
    if size > LARGEST_OUTPUT:
        return {
            "output": None,
            "output_left_out": f"it has {size:,} bytes: read the job by the API",
        }
    return {"output": job.output}


def _when(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
