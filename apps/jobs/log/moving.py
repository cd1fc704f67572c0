"""What the room that keeps lines may do to those here: find jobs that are done with, read their
lines, and take away what it has kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_one
from apps.jobs.log.archive import Batch

SETTLED_S = 60  # by then, no transaction can still bring a batch with an older id
MOST_ROWS = 1_000

# Job by job through an index: the lines between them are not looked at.
HAVE_LINES = """
WITH RECURSIVE found AS (
    (SELECT job_id FROM jobs_logchunk WHERE job_id > %(after)s ORDER BY job_id LIMIT 1)
    UNION ALL
    SELECT (SELECT c.job_id FROM jobs_logchunk c WHERE c.job_id > f.job_id
            ORDER BY c.job_id LIMIT 1)
    FROM found f WHERE f.job_id IS NOT NULL
)
SELECT f.job_id, j.workspace_id, j.completed_at,
    j.status IN ('completed', 'failed', 'cancelled')
    AND j.completed_at < clock_timestamp() - make_interval(secs => %(age)s)
    AND NOT EXISTS (SELECT 1 FROM jobs_attempt a WHERE a.job_id = j.id AND a.ended_at IS NULL)
    AND EXISTS (SELECT 1 FROM jobs_logchunk c WHERE c.job_id = j.id
        AND c.at < clock_timestamp() - make_interval(secs => %(settled)s)),
    j.created_at > clock_timestamp() - make_interval(secs => %(age)s)
FROM (SELECT job_id FROM found WHERE job_id IS NOT NULL LIMIT %(limit)s) f
    LEFT JOIN jobs_job j ON j.id = f.job_id
ORDER BY f.job_id
"""
NEXT = """
SELECT id, step_id, attempt_id, line_count, size, at, lines FROM (
    SELECT c.*, octet_length(lines) AS size,
        sum(octet_length(lines)) OVER (ORDER BY id) - octet_length(lines) AS before
    FROM (
        SELECT * FROM jobs_logchunk WHERE job_id = %(job)s AND id > %(after)s
            AND at < clock_timestamp() - make_interval(secs => %(settled)s)
        ORDER BY id LIMIT %(limit)s
    ) c
) t WHERE before = 0 OR before + size <= %(most)s ORDER BY id
"""
FORGET = """
WITH gone AS (DELETE FROM jobs_logchunk WHERE job_id = %s AND id = ANY(%s) RETURNING 1)
SELECT count(*) FROM gone
"""
# Against removal of the job; its own moves go on.
EXISTS = "SELECT 1 FROM jobs_job WHERE id = %s FOR KEY SHARE"
HAS_ENDED = """
SELECT 1 FROM jobs_job WHERE id = %s AND status IN ('completed', 'failed', 'cancelled') FOR SHARE
"""


@dataclass(frozen=True, slots=True)
class Done:
    """A job that ended long enough ago and has lines here."""

    id: UUID
    workspace_id: int
    ended_at: datetime


def done(after: UUID, age_s: float, limit: int) -> tuple[list[Done], UUID | None]:
    """Those among the next `limit` jobs with lines here whose lines may be kept elsewhere: nothing
    can append to them a batch that is already there. And where to go on; None at the end, which is
    where all jobs are too young: their ids begin with the time."""
    params = {"after": after, "age": age_s, "settled": SETTLED_S, "limit": limit}
    rows = fetch(HAVE_LINES, params)
    found = [Done(*row[:3]) for row in rows if row[3]]
    is_over = len(rows) < limit or rows[-1][4]
    return found, None if is_over else rows[-1][0]


def next_batches(job_id: UUID, after: int, most_bytes: int) -> list[Batch]:
    """The next batches of a job, together at most so large, or one."""
    params = {
        "job": job_id, "after": after, "settled": SETTLED_S, "limit": MOST_ROWS, "most": most_bytes,
    }  # fmt: skip
    return [
        Batch(id, job_id, step_id, attempt_id, count, size, at, lines)
        for id, step_id, attempt_id, count, size, at, lines in fetch(NEXT, params)
    ]


def hold(job_id: UUID) -> bool:
    """Whether the job is there; it stays until the transaction ends."""
    return fetch_one(EXISTS, (job_id,)) is not None


def hold_ended(job_id: UUID) -> bool:
    """Whether the job has ended; it stays so until the transaction ends."""
    return fetch_one(HAS_ENDED, (job_id,)) is not None


def forget(job_id: UUID, batch_ids: Sequence[int]) -> int:
    """Take these batches away; returns how many there were."""
    row = fetch_one(FORGET, (job_id, list(batch_ids)))
    return int(row[0]) if row else 0
