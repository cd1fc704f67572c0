"""Handing a ready step to a worker: the step and its attempt, never the job row.

Looking at the best step of each tag set first and then claiming within the best one keeps every
look an index scan; `tag_set_id IN (...) ORDER BY ...` reads and sorts all that is ready.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_alone, fetch_one

# A claim need not wait for the disk: `started` follows before any process may exist, and it does
# wait. A claim that a crash of the database takes back is one whose `started` is refused.
CLAIM = """
WITH b AS (
    SELECT x.tag_set_id FROM unnest(%(sets)s::int[]) t(id) CROSS JOIN LATERAL (
        SELECT tag_set_id, priority, fair_rank, ready_at, id FROM jobs_step
        WHERE status = 'ready' AND tag_set_id = t.id AND (%(job)s::uuid IS NULL OR job_id = %(job)s)
        ORDER BY priority DESC, fair_rank, ready_at, id LIMIT 1
    ) x ORDER BY x.priority DESC, x.fair_rank, x.ready_at, x.id LIMIT 1
),
c AS (
    SELECT id, CASE WHEN %(may_lag)s THEN set_config('synchronous_commit', 'off', true) END
        FROM jobs_step
    WHERE status = 'ready' AND tag_set_id = (SELECT tag_set_id FROM b)
        AND (%(job)s::uuid IS NULL OR job_id = %(job)s)
    ORDER BY priority DESC, fair_rank, ready_at, id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
),
s AS (
    UPDATE jobs_step t SET status = 'running', fence = t.fence + 1, attempts = t.attempts + 1,
        worker_id = %(worker)s, started_at = clock_timestamp(), error = ''
    FROM c WHERE t.id = c.id AND t.status = 'ready'
    RETURNING t.id, t.job_id, t.fence, t.attempts, t.name, t.base, t.timeout_s, t.tag_set_id
),
a AS (
    INSERT INTO jobs_attempt (step_id, job_id, fence, worker_id, claimed_at, lease_until,
        deadline_at, started_at)
    SELECT s.id, s.job_id, s.fence, %(worker)s, clock_timestamp(),
        clock_timestamp() + make_interval(secs => %(lease_s)s),
            clock_timestamp() + make_interval(secs => s.timeout_s),
        CASE WHEN j.revision_id = ANY(%(warm)s::bigint[]) THEN clock_timestamp() END
    FROM s JOIN jobs_job j ON j.id = s.job_id RETURNING id, started_at
),
e AS (
    INSERT INTO jobs_stepevent (job_id, step_id, fence, kind) SELECT job_id, id, fence, 'claimed'
        FROM s
)
SELECT s.id, a.id, s.fence, s.job_id, s.name, s.base, s.attempts, s.timeout_s, s.tag_set_id,
    j.task_name,
    j.blueprint_id, j.revision_id, a.started_at IS NOT NULL,
    %(may_lag)s AND EXISTS (
        SELECT 1 FROM jobs_step m WHERE m.status = 'ready'
            AND m.tag_set_id = ANY(%(covered)s::int[]) AND m.id <> s.id
            AND (%(job)s::uuid IS NULL OR m.job_id = %(job)s)
    ),
    j.input::text, j.input_sealed
FROM s, a, jobs_job j WHERE j.id = s.job_id
"""
WAITING = """
SELECT t.id FROM unnest(%(sets)s::int[]) t(id)
WHERE EXISTS (SELECT 1 FROM jobs_step WHERE status = 'ready' AND tag_set_id = t.id)
"""
RENEW = """
WITH w AS (
    UPDATE fleet_worker SET heartbeat_at = clock_timestamp(), busy = %(busy)s
    WHERE id = %(worker)s AND stopped_at IS NULL RETURNING id
),
a AS (
    UPDATE jobs_attempt t SET lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
    FROM unnest(%(ids)s::bigint[], %(fences)s::int[]) x(id, fence), w
    WHERE t.id = x.id AND t.fence = x.fence AND t.ended_at IS NULL RETURNING t.id, t.job_id
)
SELECT (SELECT count(*) FROM w), (SELECT json_agg(id) FROM a),
    (SELECT json_agg(a.id) FROM a JOIN jobs_job j ON j.id = a.job_id
        WHERE j.cancel_requested_at IS NOT NULL)
"""
STARTED = """
UPDATE jobs_attempt SET started_at = clock_timestamp()
WHERE id = %s AND fence = %s AND ended_at IS NULL AND lease_until > clock_timestamp() RETURNING 1
"""


def claim_params(
    worker_id: UUID,
    tag_set_ids: Sequence[int],
    lease_s: float,
    job_id: UUID | None,
    *,
    warm: Sequence[int] = (),
    covered: Sequence[int] = (),
) -> dict[str, Any]:
    """`warm` are revisions whose steps are noted as started at once; without any, `start` follows
    and is durable. `covered`: where else the worker may find more, if not only in `tag_set_ids`."""
    return {
        "sets": _array(tag_set_ids),
        "covered": _array(covered or tag_set_ids),
        "job": job_id,
        "worker": worker_id,
        "lease_s": lease_s,
        "warm": _array(warm),
        "may_lag": not warm,
    }


def _array(ids: Sequence[int]) -> str:
    """Numbers as the database writes an array: a list as a parameter is looked through several
    times."""
    return f"{{{','.join(map(str, ids))}}}"


def claim(
    worker_id: UUID, tag_set_ids: Sequence[int], *, lease_s: float, job_id: UUID | None = None
) -> tuple[Any, ...] | None:
    """The best ready step of these tag sets, now held by the worker; None when there is none."""
    row = fetch_alone(CLAIM, claim_params(worker_id, tag_set_ids, lease_s, job_id))
    return row or claim_elsewhere(worker_id, tag_set_ids, lease_s=lease_s, job_id=job_id)


def claim_elsewhere(
    worker_id: UUID, tag_set_ids: Sequence[int], *, lease_s: float, job_id: UUID | None = None
) -> tuple[Any, ...] | None:
    """After a look in vain: others may have held all that was ready in the best tag set, while
    another has some."""
    sets = (
        [row[0] for row in fetch(WAITING, {"sets": list(tag_set_ids)})]
        if len(tag_set_ids) > 1
        else []
    )
    for tag_set_id in sets:
        row = fetch_one(
            CLAIM, claim_params(worker_id, [tag_set_id], lease_s, job_id, covered=tag_set_ids)
        )
        if row is not None:
            return row
    return None


def renew(
    worker_id: UUID, live: dict[int, int], busy: int, *, lease_s: float
) -> tuple[bool, frozenset[int], frozenset[int]]:
    """Extend the leases of these attempts (id -> fence). Returns (is known, still ours, asked to
    stop)."""
    params = {
        "worker": worker_id,
        "busy": busy,
        "ids": list(live),
        "fences": list(live.values()),
        "lease_s": lease_s,
    }
    row = fetch_one(RENEW, params)
    assert row is not None
    return bool(row[0]), frozenset(row[1] or ()), frozenset(row[2] or ())


def start(attempt_id: int, fence: int) -> bool:
    """Note that the attempt's process may exist from now on; False when the attempt is not the
    worker's any more."""
    return fetch_alone(STARTED, (attempt_id, fence)) is not None
