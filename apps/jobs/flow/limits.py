"""The concurrency limit of a task: jobs over it are held, and let go when one before them ends."""

from __future__ import annotations

from uuid import UUID

from django.db import connection

from apps.jobs.models import Job
from engine.spec.model import Task


def is_over_limit(
    task: Task, workspace_id: int, task_name: str, parent_job_id: UUID | None = None
) -> bool:
    """Whether one more job of the task must wait. Takes a lock by task, so that two starts cannot
    both pass.

    Held and delayed jobs have no place yet. A job within a job of the same task never waits: the
    outer one would wait for it for ever.
    """
    if task.max_concurrent_jobs is None:
        return False
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{workspace_id}/{task_name}"]
        )
    open_jobs = Job.objects.filter(
        workspace_id=workspace_id, task_name=task_name, status__in=["pending", "running"]
    )
    running = open_jobs.filter(is_held=False, due_at=None).count()
    return running >= task.max_concurrent_jobs and not _is_within(task_name, parent_job_id)


def _is_within(task_name: str, parent_job_id: UUID | None) -> bool:
    while parent_job_id is not None:
        parent = (
            Job.objects.filter(id=parent_job_id).values_list("task_name", "parent_job_id").first()
        )
        if parent is None:
            return False
        if parent[0] == task_name:
            return True
        parent_job_id = parent[1]
    return False
