"""How long the completed jobs of a task took, and when its running ones can be expected to end."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import fetch
from apps.jobs.models import Job
from engine.lifecycle import JobStatus, StepStatus

MOST_RUNNING = 100
STEPS = """
SELECT base, count(*), avg(ms), percentile_cont(0.5) WITHIN GROUP (ORDER BY ms),
       percentile_cont(0.95) WITHIN GROUP (ORDER BY ms), min(ms), max(ms)
FROM (
    SELECT base, position, extract(epoch FROM completed_at - started_at) * 1000 AS ms
    FROM jobs_step
    WHERE job_id = ANY(%(jobs)s) AND owner_kind = 'step' AND loop_id IS NULL
      AND status = %(completed)s AND started_at IS NOT NULL
) took
GROUP BY base ORDER BY min(position), base
"""


@dataclass(frozen=True, slots=True)
class Durations:
    """Of a sample, in milliseconds; None without one."""

    sample_size: int
    avg_ms: int | None = None
    p50_ms: int | None = None
    p95_ms: int | None = None
    min_ms: int | None = None
    max_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Recent:
    job_id: UUID
    duration_ms: int
    completed_at: datetime


@dataclass(frozen=True, slots=True)
class Underway:
    """`eta`: None without completed jobs, or if it already took longer than 95 % of them."""

    job_id: UUID
    started_at: datetime
    eta: datetime | None


@dataclass(frozen=True, slots=True)
class TaskDurations:
    """`recent`: newest first; `steps`: by name, in flow order. A loop counts as one step."""

    whole: Durations
    recent: Sequence[Recent]
    steps: Sequence[tuple[str, Durations]]
    running: Sequence[Underway]


def durations_of(workspace_id: int, task: str, window: int, now: datetime) -> TaskDurations:
    """Of the newest `window` completed jobs. Three queries."""
    jobs = Job.objects.filter(workspace_id=workspace_id, task_name=task).order_by("-created_at")
    ended = jobs.filter(status=JobStatus.COMPLETED, started_at__isnull=False)
    rows = list(ended.values_list("id", "started_at", "completed_at")[:window])
    recent = sorted(
        (Recent(job_id, _ms(end - start), end) for job_id, start, end in rows if start and end),
        key=lambda row: row.completed_at,
        reverse=True,
    )
    whole = _durations([row.duration_ms for row in recent])
    running = jobs.filter(status=JobStatus.RUNNING, started_at__isnull=False)
    underway = running.values_list("id", "started_at")[:MOST_RUNNING]
    return TaskDurations(
        whole,
        recent,
        _steps([row.job_id for row in recent]),
        [Underway(job_id, start, _eta(start, whole, now)) for job_id, start in underway if start],
    )


def _steps(job_ids: Collection[UUID]) -> list[tuple[str, Durations]]:
    if not job_ids:
        return []
    params: dict[str, Any] = {"jobs": list(job_ids), "completed": StepStatus.COMPLETED.value}
    return [
        (name, Durations(count, *map(round, values)))
        for name, count, *values in fetch(STEPS, params)
    ]


def _durations(sample: Sequence[int]) -> Durations:
    if not sample:
        return Durations(0)
    ordered = sorted(sample)
    return Durations(
        len(ordered),
        round(sum(ordered) / len(ordered)),
        _percentile(ordered, 0.5),
        _percentile(ordered, 0.95),
        ordered[0],
        ordered[-1],
    )


def _percentile(ordered: Sequence[int], share: float) -> int:
    """Between two values, in proportion, as PostgreSQL's `percentile_cont`."""
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return round(ordered[low] + (ordered[high] - ordered[low]) * (place - low))


def _eta(started_at: datetime, whole: Durations, now: datetime) -> datetime | None:
    for expected_ms in (whole.p50_ms, whole.p95_ms):
        if expected_ms is not None:
            eta = started_at + timedelta(milliseconds=expected_ms)
            if eta > now:
                return eta
    return None


def _ms(span: timedelta) -> int:
    return max(0, round(span.total_seconds() * 1000))
