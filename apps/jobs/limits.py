"""The concurrency limit of a task: jobs over it are held, and let go when one before them ends."""

from __future__ import annotations

from django.db import connection

from apps.jobs.models import Job
from engine.spec.model import Task


def is_over_limit(task: Task, workspace_id: int, task_name: str) -> bool:
    """Whether one more job of the task must wait. Takes a lock by task, so that two starts cannot both pass."""
    if task.max_concurrent_jobs is None:
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [f"{workspace_id}/{task_name}"])
    running = Job.objects.filter(
        workspace_id=workspace_id, task_name=task_name, status__in=["pending", "running"], is_held=False
    ).count()
    return running >= task.max_concurrent_jobs
