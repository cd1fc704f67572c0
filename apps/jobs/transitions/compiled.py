"""The common end of a step as one statement: it succeeded, and what hangs on it needs no thought.

Same effect as `moves.settle` and `moves.unblock` under `Advance`, for a step of the flow whose
dependents have neither condition nor loop and run on workers, in a job where nothing has failed.
The statement refuses (moves nothing) where that does not hold, and the general path decides. A
property test holds both equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import jsonb
from apps.jobs.transitions.moves import Result

# Waiting happens here, so that the statement after it begins with a view in which the job's rows
# are as they are: one that waits in its midst must look up every row that it changes a second time.
LOCK = "SELECT 1 FROM jobs_job WHERE id = %(job)s FOR NO KEY UPDATE"
COMPLETE = """
WITH j AS (
    SELECT id FROM jobs_job
    WHERE id = %(job)s AND status = 'running' AND bad_steps = 0 AND cancel_requested_at IS NULL
        FOR NO KEY UPDATE
),
s AS (
    UPDATE jobs_step t SET status = 'completed', error = '',
        output = coalesce(%(output)s, t.output),
        has_output = t.has_output OR %(has_output)s,
            output_sealed = coalesce(%(sealed)s, t.output_sealed),
        input = coalesce(%(input)s, t.input), deadline_at = NULL, completed_at = clock_timestamp()
    FROM j WHERE t.id = %(step)s AND t.job_id = j.id AND t.status = 'running'
        AND t.fence = %(fence)s
    RETURNING t.id, t.dependents, t.fence
),
a AS (
    UPDATE jobs_attempt SET status = 'completed', ended_at = clock_timestamp(),
        exit_code = %(exit_code)s
    WHERE id = %(attempt)s AND ended_at IS NULL AND EXISTS (SELECT 1 FROM s)
),
d AS (
    UPDATE jobs_step t SET deps_left = t.deps_left - 1, deps_completed = t.deps_completed + 1,
        status = CASE WHEN t.deps_left = 1 AND t.status = 'pending' THEN 'ready' ELSE t.status END,
        ready_at = CASE WHEN t.deps_left = 1 AND t.status = 'pending' THEN clock_timestamp()
            ELSE t.ready_at END,
        fair_rank = CASE WHEN t.deps_left = 1 AND t.status = 'pending' THEN x.rank
            ELSE t.fair_rank END
    FROM s, unnest(s.dependents) WITH ORDINALITY x(id, rank) WHERE t.id = x.id
    RETURNING t.id, t.fence, t.tag_set_id, t.deps_left = 0 AND t.status = 'ready' AS is_free
),
k AS (UPDATE jobs_job SET open_steps = open_steps - 1 WHERE id = %(job)s
    AND EXISTS (SELECT 1 FROM s)),
e AS (
    INSERT INTO jobs_stepevent (job_id, step_id, fence, kind)
    SELECT %(job)s, s.id, s.fence, 'succeeded' FROM s
    UNION ALL SELECT %(job)s, d.id, d.fence, 'unblocked' FROM d WHERE d.is_free
)
SELECT (SELECT count(*) FROM s),
    (SELECT string_agg(c.tag_set_id || ' ' || c.total, ' ')
        FROM (SELECT tag_set_id, count(*) AS total FROM d WHERE is_free GROUP BY tag_set_id) c)
"""


@dataclass(frozen=True, slots=True)
class Completion:
    """What the statement is told."""

    job_id: UUID
    step_id: int
    fence: int
    attempt_id: int
    exit_code: int | None
    result: Result
    input: Any

    @property
    def params(self) -> dict[str, Any]:
        result = self.result
        return {
            "job": self.job_id,
            "step": self.step_id,
            "fence": self.fence,
            "attempt": self.attempt_id,
            "exit_code": self.exit_code,
            "output": jsonb(result.output) if result.has_output else None,
            "has_output": result.has_output,
            "sealed": result.output_sealed,
            "input": jsonb(self.input) if self.input else None,
        }


def read(row: tuple[Any, ...]) -> dict[int, int] | None:
    """How many steps became ready, by tag set id; None when the statement refused."""
    if not row[0]:
        return None
    numbers = map(int, (row[1] or "").split())
    return dict(zip(numbers, numbers, strict=True))
