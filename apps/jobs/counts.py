"""Counts of jobs and steps for metrics. Each answers from an index."""

from __future__ import annotations

from collections import Counter

from django.db.models import Count, Sum

from apps.jobs.database.sql import fetch
from apps.jobs.models import Job, RemovedJobs, Step
from engine.lifecycle import FINAL_JOB, OPEN_JOB, StepStatus

OLDEST_READY = """
SELECT coalesce(extract(epoch FROM clock_timestamp() - min(ready_at)), 0)::float
FROM jobs_step WHERE status = 'ready'
"""


def jobs_in_flight() -> dict[str, int]:
    """Open jobs by status."""
    rows = Job.objects.filter(status__in=OPEN_JOB).order_by().values_list("status")
    return {status.value: 0 for status in OPEN_JOB} | dict(rows.annotate(count=Count("pk")))


def jobs_created() -> dict[str, int]:
    """Jobs by source, with those that retention removed: only grows."""
    return _with_removed("source_type")


def jobs_ended() -> dict[str, int]:
    """Ended jobs by status, with those that retention removed. A restart takes one back."""
    found = _with_removed("status")
    return {status.value: found.get(status.value, 0) for status in sorted(FINAL_JOB)}


def steps_ready() -> int:
    return Step.objects.filter(status=StepStatus.READY).count()


def oldest_ready_s() -> float:
    """How long the step that has waited longest for a worker has waited."""
    return float(fetch(OLDEST_READY, ())[0][0])


def _with_removed(column: str) -> dict[str, int]:
    kept = Job.objects.order_by().values_list(column).annotate(count=Count("pk"))
    gone = RemovedJobs.objects.order_by().values_list(column).annotate(total=Sum("count"))
    return dict(sorted((Counter(dict(kept)) + Counter(dict(gone))).items()))
