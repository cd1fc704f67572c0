"""`retry` of a task: a new job follows a failed run, up to the number of runs that the author
allows. If a step called the task, the step goes on waiting, now for the new job."""

from __future__ import annotations

import random

from apps.jobs import ports
from apps.jobs.flow import contexts, starting
from apps.jobs.flow.starting import Origin
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.jobs.ports import Caller
from apps.jobs.transitions import rows
from apps.jobs.transitions.moves import say
from apps.workspaces.models import Revision
from engine.lifecycle import JobStatus
from engine.retries import delay_s


def on_end(job: Job, plan: Plan) -> None:
    """Start the next run of a failed job, unless the step that called it waits no longer."""
    retry = plan.task.retry
    if retry is None or job.status != JobStatus.FAILED:
        return
    runs = job.retry_attempt + 1
    if runs >= retry.max_attempts:
        return
    caller: Caller | None = None
    if job.parent_step_id is not None and not rows.hold_waiting(job.parent_step_id, job.id):
        caller = ports.caller_of(job.id)
        if caller is None:
            return
    wait_s = delay_s(retry, runs, random.random())
    following = _next_run(job, wait_s)
    job.retry_job_id = following.id
    Job.objects.filter(id=job.id).update(retry_job_id=following.id)
    if caller is not None:
        caller.adopt(job.id, following.id)
    elif job.parent_step_id is not None:
        rows.adopt(job.parent_step_id, following.id)
    text = (
        f"[retry] Task run {runs} of {retry.max_attempts} failed: new job {following.id} in"
        f" {wait_s:.0f}s"
    )
    say(job.id, text, at=job.completed_at.timestamp() if job.completed_at else 0.0)


def _next_run(job: Job, wait_s: float) -> Job:
    origin = Origin(
        "retry",
        str(job.id),
        job.started_by_id,
        parent_job_id=job.parent_job_id,
        parent_step_id=job.parent_step_id,
        parent_step_name=job.parent_step_name,
        depth=job.depth,
        retry_of_id=job.retry_of_id or job.id,
        retry_attempt=job.retry_attempt + 1,
        scheduled_at=job.scheduled_at,
    )
    return starting.start_at(
        Revision.objects.get(id=job.revision_id),
        job.task_name,
        contexts.clear_input(job),
        origin,
        priority=job.priority,
        wait_s=wait_s,
        hidden=contexts.hidden_of(job),
    )
