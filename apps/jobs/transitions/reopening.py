"""The next generation of a job: final steps become pending again, with counters that match their
dependencies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from apps.jobs.database.sql import fetch
from engine.lifecycle import STEP_MOVES, StepEventKind
from engine.planner import Tally

EVENT = StepEventKind.REOPENED
SOURCES, TARGET = STEP_MOVES[EVENT].sources, STEP_MOVES[EVENT].target

REOPEN = """
WITH s AS (
    UPDATE jobs_step t SET status = %(status)s, deps_left = x.deps_left,
        deps_completed = x.completed, deps_failed = 0,
        deps_skipped = x.skipped, attempts = 0, losses = 0, retry_at = NULL, deadline_at = NULL,
            error = '',
        output = NULL, has_output = false, output_sealed = NULL, child_job_id = NULL,
            worker_id = NULL,
        started_at = NULL, suspended_at = NULL, completed_at = NULL, ready_at = NULL
    FROM unnest(%(ids)s::bigint[], %(left)s::int[], %(completed)s::int[], %(skipped)s::int[])
        x(id, deps_left, completed, skipped)
    WHERE t.id = x.id AND t.status = ANY(%(sources)s)
    RETURNING t.id, t.job_id, t.fence
)
INSERT INTO jobs_stepevent (job_id, step_id, fence, kind) SELECT job_id, id, fence, %(event)s FROM s
    RETURNING 1
"""
REOPEN_INSTANCES = """
WITH s AS (
    UPDATE jobs_step t SET status = %(status)s, attempts = 0, losses = 0, retry_at = NULL,
        deadline_at = NULL,
        error = '', output = NULL, has_output = false, output_sealed = NULL, child_job_id = NULL,
            worker_id = NULL,
        started_at = NULL, suspended_at = NULL, completed_at = NULL, ready_at = NULL
    WHERE t.loop_id = ANY(%(loops)s) AND t.status = ANY(%(sources)s) RETURNING t.id, t.job_id,
        t.fence, t.loop_id
),
e AS (
    INSERT INTO jobs_stepevent (job_id, step_id, fence, kind) SELECT job_id, id, fence, %(event)s
        FROM s
),
n AS (SELECT loop_id, count(*) AS total FROM s GROUP BY loop_id)
UPDATE jobs_step p SET loop_open = n.total, loop_failed = 0, loop_next = p.loop_total - n.total
FROM n WHERE p.id = n.loop_id
"""
HOLD_BACK = """
UPDATE jobs_step t SET deps_left = t.deps_left + x.count
FROM unnest(%s::bigint[], %s::int[]) x(id, count) WHERE t.id = x.id
"""
REOPEN_JOB = """
UPDATE jobs_job SET generation = generation + 1, open_steps = %s, bad_steps = 0,
    cancel_requested_at = NULL,
    cancel_reason = '', is_timed_out = false, retry_job_id = NULL,
        deadline_at = clock_timestamp() + make_interval(secs => %s) WHERE id = %s
"""


@dataclass(frozen=True, slots=True)
class Reopened:
    """A step to reopen: how many of its dependencies run again, and how the others ended."""

    id: int
    deps_left: int
    tally: Tally


def reopen_steps(steps: Sequence[Reopened]) -> None:
    fetch(
        REOPEN,
        {
            "ids": [step.id for step in steps],
            "left": [step.deps_left for step in steps],
            "completed": [step.tally.completed for step in steps],
            "skipped": [step.tally.skipped for step in steps],
            "status": TARGET,
            "sources": SOURCES,
            "event": EVENT.value,
        },
    )


def reopen_instances(loop_ids: Sequence[int]) -> None:
    """Reopen the instances of these loops that did not complete; they wait until their loop
    resumes."""
    fetch(
        REOPEN_INSTANCES,
        {"loops": list(loop_ids), "status": TARGET, "sources": SOURCES, "event": EVENT.value},
    )


def hold_back(counts: Mapping[int, int]) -> None:
    """Let completed steps behind rerun ones count down their dependencies once more."""
    fetch(HOLD_BACK, (list(counts), list(counts.values())))


def reopen_job(job_id: UUID, *, open_steps: int, timeout_s: float | None) -> None:
    fetch(REOPEN_JOB, (open_steps, timeout_s, job_id))
