"""What a worker writes under its claim: the claim itself, its leases, its log lines, and the common
end of a step as one statement: it succeeded, and its dependents need no decision.

That end has the same effect as `moves.settle` and `moves.unblock` under `Advance`, for a step of
the flow whose dependents have neither condition nor loop and run on workers, in a job without
failures. Elsewhere the statement refuses (changes nothing) and the general path decides. A property
test compares both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_alone, fetch_named, fetch_one, jsonb, statement
from apps.jobs.transitions.moves import Result, logged
from apps.jobs.values import Claim
from engine.orders import Line
from engine.rights import expression

NONE = "{}"
BOUND = "(bound_to = %(worker)s OR (bound_to IS NULL AND NOT %(only_bound)s::bool))"
# Only for workers that serve some workspaces: the others do not pay for the question.
SERVED = """EXISTS (SELECT 1 FROM jobs_job own WHERE own.id = jobs_step.job_id
    AND own.workspace_id = ANY(ARRAY(
        SELECT id FROM workspaces_workspace WHERE name ~ ANY(%(serves)s::text[]))))"""
ONLY_SET = "(%(sets)s::int[])[1]"
RENEW = statement(__file__, "renew")
# Wait for the lock here, so that the next statement starts with a current snapshot of the job: a
# statement that waits halfway must look up every row that it changes a second time.
LOCK = "SELECT 1 FROM jobs_job WHERE id = %(job)s FOR NO KEY UPDATE"
COMPLETE_BEFORE_MANY = statement(__file__, "complete").replace(
    "NAMED named", "unnest(ended.dependents) WITH ORDINALITY named"
)
COMPLETE_BEFORE_ONE = statement(__file__, "complete").replace(
    "NAMED named", "LATERAL (SELECT ended.dependents[1], 1) named"
)
WAITING = """
SELECT t.id FROM unnest(%(sets)s::int[]) t(id)
WHERE EXISTS (SELECT 1 FROM jobs_step WHERE status = 'ready' AND tag_set_id = t.id)
"""
STARTED = """
UPDATE jobs_attempt SET started_at = clock_timestamp()
WHERE id = %(attempt)s AND fence = %(fence)s AND ended_at IS NULL
    AND lease_until > clock_timestamp() RETURNING 1
"""
# The day of the claim, so that a repeated batch meets the partition with its first copy.
APPEND = """
WITH a AS (
    SELECT job_id, step_id, (claimed_at AT TIME ZONE 'UTC')::date AS day FROM jobs_attempt
    WHERE id = %(attempt)s AND fence = %(fence)s AND ended_at IS NULL
),
i AS (
    INSERT INTO jobs_logchunk (day, attempt_id, seq, job_id, step_id, lines, line_count)
    SELECT a.day, %(attempt)s, %(seq)s, a.job_id, a.step_id, %(lines)s, %(count)s FROM a
        ON CONFLICT DO NOTHING
)
SELECT 1 FROM a
"""


def claim_params(
    worker_id: UUID,
    tag_set_ids: Sequence[int],
    lease_s: float,
    job_id: UUID | None,
    *,
    warm: Sequence[int] = (),
    covered: Sequence[int] = (),
    are_units: bool = False,
    only_bound: bool = False,
    serves: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:
    """`warm`: revisions whose steps are noted as started at once, as units always are; other steps
    need `start`, which is durable. `covered`: tag sets where the worker may find more, beyond
    `tag_set_ids`. `only_bound`: only what no other worker can do.
    `serves`: groups of patterns; the worker serves only workspaces that match one of each."""
    return {
        "sets": _array(tag_set_ids),
        "covered": _array(covered or tag_set_ids),
        "job": job_id,
        "worker": worker_id,
        "lease_s": lease_s,
        "warm": _array(warm),
        "may_lag": not (warm or are_units),
        "only_bound": only_bound,
        "serves": [f"^{''.join(map(_any_of, serves))}"],
    }


def _any_of(patterns: Sequence[str]) -> str:
    """A condition that looks ahead, so that several can be asked of one name."""
    return f"(?=(?:{'|'.join(map(expression, patterns))})$)"


@cache
def claiming(*, are_units: bool, serves_some: bool, is_one_set: bool) -> str:
    """The statement that claims one kind of work for such a worker."""
    conditions = [BOUND] * are_units + [SERVED] * serves_some
    text = statement(__file__, "claim").replace(
        "= BEST_SET", "= " + (ONLY_SET if is_one_set else statement(__file__, "best_set").rstrip())
    )
    return text.replace("AND IS_FREE", " ".join(f"AND {each}" for each in conditions))


def _array(ids: Sequence[int]) -> str:
    """Numbers as a PostgreSQL array literal: psycopg scans a list several times."""
    return f"{{{','.join(map(str, ids))}}}"


def claim(
    worker_id: UUID,
    tag_set_ids: Sequence[int],
    *,
    lease_s: float,
    job_id: UUID | None = None,
    are_units: bool = False,
    only_bound: bool = False,
    serves: Sequence[Sequence[str]] = (),
) -> Any:
    """The best ready row of these tag sets, now held by the worker; None if there is none."""
    params = claim_params(
        worker_id,
        tag_set_ids,
        lease_s,
        job_id,
        are_units=are_units,
        only_bound=only_bound,
        serves=serves,
    )
    taking = claiming(
        are_units=are_units, serves_some=bool(serves), is_one_set=len(tag_set_ids) == 1
    )
    return fetch_alone(taking, params) or claim_elsewhere(tag_set_ids, params, taking)


def claim_elsewhere(tag_set_ids: Sequence[int], params: dict[str, Any], taking: str) -> Any:
    """After a claim in vain: others may have locked everything ready in the best tag set while
    another set has some."""
    if len(tag_set_ids) < 2:
        return None
    may_lag = params["may_lag"] or bool(params["warm"] != NONE)
    for (tag_set_id,) in fetch(WAITING, {"sets": list(tag_set_ids)}):
        one = {**params, "sets": _array([tag_set_id]), "warm": NONE, "may_lag": may_lag}
        rows = fetch_named(taking, one)
        if rows:
            return rows[0]
    return None


def renew_params(
    worker_id: UUID, live: Mapping[int, int], progress: Mapping[int, int], lease_s: float
) -> dict[str, Any]:
    return {
        "worker": worker_id,
        "ids": list(live),
        "fences": list(live.values()),
        "progress": [progress.get(attempt_id) for attempt_id in live],
        "lease_s": lease_s,
    }


def start(attempt_id: int, fence: int) -> bool:
    """Note that the attempt's process may exist from now on; False if the worker has lost it."""
    return fetch_alone(STARTED, {"attempt": attempt_id, "fence": fence}) is not None


def append(claim: Claim, seq: int, lines: Sequence[Line]) -> bool:
    """Store a batch of log lines; repeating (attempt, seq) changes nothing. False if the attempt
    has ended."""
    return fetch_one(APPEND, append_params(claim, seq, lines)) is not None


def append_params(claim: Claim, seq: int, lines: Sequence[Line]) -> dict[str, Any]:
    return {
        "attempt": claim.attempt_id,
        "fence": claim.fence,
        "seq": seq,
        "lines": "".join(logged(line.at, line.stream, claim.log_name, line.text) for line in lines),
        "count": len(lines),
    }


@dataclass(frozen=True, slots=True)
class Completion:
    """The statement of this end and its parameters."""

    job_id: UUID
    step_id: int
    fence: int
    attempt_id: int
    exit_code: int | None
    result: Result
    input: Any
    has_one_dependent: bool

    @property
    def statement(self) -> str:
        return COMPLETE_BEFORE_ONE if self.has_one_dependent else COMPLETE_BEFORE_MANY

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


def read_completion(rows: Sequence[tuple[Any, ...]]) -> dict[int, int] | None:
    """How many steps became ready, by tag set id; None if the statement refused."""
    if not rows:
        return None
    return {tag_set_id: count for tag_set_id, count in rows if tag_set_id is not None}
