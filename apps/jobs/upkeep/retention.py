"""Removes jobs that ended long ago, each with its whole tree; a tree with an open job stays
whole, and so does one that something open belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.conf import settings
from django.db import transaction

from apps.jobs import ports
from apps.jobs.database.sql import fetch
from apps.jobs.models import Job
from apps.jobs.upkeep.kin import busy
from engine.lifecycle import FINAL_JOB

BATCH = 100

# A child whose parent is gone is the root of what is left.
OLD_ROOTS = """
SELECT j.id FROM jobs_job j
WHERE j.status IN ('completed', 'failed', 'cancelled')
    AND j.completed_at < clock_timestamp() - make_interval(secs => %s)
    AND NOT EXISTS (SELECT 1 FROM jobs_job p WHERE p.id = j.parent_job_id) AND j.id > %s
ORDER BY j.id LIMIT %s
"""
TREE = """
WITH RECURSIVE tree AS (
    SELECT id FROM jobs_job WHERE id = %s
    UNION SELECT j.id FROM jobs_job j JOIN tree t ON j.parent_job_id = t.id
)
SELECT id, status, completed_at < clock_timestamp() - make_interval(secs => %s) FROM jobs_job
WHERE id IN (SELECT id FROM tree) ORDER BY id FOR UPDATE
"""
COUNT_REMOVED = """
INSERT INTO jobs_removedjobs AS t (source_type, status, count)
SELECT source_type, status, count(*) FROM jobs_job WHERE id = ANY(%s) GROUP BY 1, 2 ORDER BY 1, 2
ON CONFLICT (source_type, status) DO UPDATE SET count = t.count + excluded.count
"""
NOTHING = UUID(int=0)


def remove_old_jobs() -> int:
    """Remove jobs that ended more than `retention.job_days` ago; returns how many. Does nothing
    without the setting."""
    days = settings.STROEM.retention.job_days
    if days is None:
        return 0
    removed, last = 0, NOTHING
    while roots := fetch(OLD_ROOTS, (days * 86_400, last, BATCH)):
        removed += sum(remove_tree(root, days * 86_400) for (root,) in roots)
        last = roots[-1][0]
    return removed


@transaction.atomic
def remove_tree(root: UUID, age_s: float) -> int:
    tree = fetch(TREE, (root, age_s))
    # A restart may have reopened a job since it was found; the rows are locked from here on.
    if any(status not in FINAL_JOB or not is_old for _, status, is_old in tree):
        return 0
    ids = [job_id for job_id, _, _ in tree]
    if age_s and busy(ids):
        return 0
    ports.removed(ids)
    _remove_rows(ids)
    return len(ids)


def _remove_rows(ids: Sequence[UUID]) -> None:
    fetch(
        "DELETE FROM jobs_attempt WHERE step_id IN (SELECT id FROM jobs_step WHERE job_id ="
        " ANY(%s))",
        (list(ids),),
    )
    for table in ("jobs_stepevent", "jobs_logchunk"):
        fetch(f"DELETE FROM {table} WHERE job_id = ANY(%s)", (list(ids),))  # noqa: S608  (constants)
    fetch(COUNT_REMOVED, (list(ids),))
    Job.objects.filter(id__in=ids).delete()
