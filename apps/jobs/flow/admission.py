"""Begins jobs that had to wait: for their time, or for an end of another job of their task."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from django.db import transaction

from apps.jobs.database.sql import fetch, retried
from apps.jobs.flow import blueprints, obstacles
from apps.jobs.flow.starting import begin, roots_of, time_out_s
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from engine.lifecycle import JobStatus

ADMIT = """
UPDATE jobs_job SET is_held = false, due_at = NULL,
    deadline_at = clock_timestamp() + make_interval(secs => %s) WHERE id = %s
"""


@retried
def admit(job_id: UUID) -> None:
    """Begin a held or delayed job if it is due and its task has room."""
    job = Job.objects.select_for_update(no_key=True).get(id=job_id)
    if job.status != JobStatus.PENDING or not (job.is_held or job.due_at):
        return  # another process was faster
    plan = blueprints.load(job.blueprint_id)
    if obstacles.is_over_limit(
        plan.task, job.workspace_id, job.task_name, job.revision_id, job.parent_job_id
    ):
        waiting = {"is_held": True, "due_at": None, "deadline_at": None}
        Job.objects.filter(id=job_id, is_held=False).update(**waiting)
        return
    fetch(ADMIT, (time_out_s(plan), job_id))
    job.is_held, job.due_at = False, None
    begin(job, plan, roots_of(job_id))


def on_end(job: Job, plan: Plan) -> None:
    """After a job whose task runs one at a time, begin the next one at once: no need to wait for
    the sweep."""
    if plan.is_serial:
        admit_next = partial(_admit_next, job.workspace_id, job.task_name)
        transaction.on_commit(admit_next, robust=True)


def _admit_next(workspace_id: int, task_name: str) -> None:
    held = Job.objects.filter(
        workspace_id=workspace_id,
        task_name=task_name,
        status=JobStatus.PENDING,
        is_held=True,
        cancel_requested_at=None,
    )
    first = held.order_by("-priority", "id").values_list("id", flat=True).first()
    if first is not None:
        admit(first)
