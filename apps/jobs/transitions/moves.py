"""Guarded moves of steps and jobs, and what the server notes beside them: an event, a log line.

Every statement that counts locks the job first (FOR NO KEY UPDATE), so that all moves within a job
are serial, and reads only what it has locked: a plain read inside the statement would see older
rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_one, jsonb, statement, storable
from engine.errors import StaleMove
from engine.lifecycle import (
    ATTEMPT_TABLE,
    FINAL_JOB,
    JOB_MOVES,
    STEP_MOVES,
    AttemptEventKind,
    JobEventKind,
    JobStatus,
    StepEventKind,
    StepStatus,
    target,
)
from engine.planner import Tally

FINAL_EVENTS = frozenset(
    {StepEventKind.SUCCEEDED, StepEventKind.FAILED, StepEventKind.SKIPPED, StepEventKind.CANCELLED}
)


@dataclass(frozen=True, slots=True)
class JobState:
    """A locked job: what decisions about it need."""

    id: UUID
    status: str
    is_cancelling: bool
    open_steps: int
    bad_steps: int
    blueprint_id: int
    generation: int
    has_actions: bool

    def started(self) -> JobState:
        return replace(self, status=JobStatus.RUNNING.value)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pending step whose dependencies are all final."""

    id: int
    base: str
    tally: Tally
    tolerates: bool


@dataclass(frozen=True, slots=True)
class LoopState:
    """A loop step after some of its instances became final."""

    id: int
    base: str
    open: int
    failed: int
    next_index: int
    total: int


@dataclass(frozen=True, slots=True)
class Settled:
    """The effects of a set of final moves."""

    moved: int
    candidates: tuple[Candidate, ...] = ()
    loops: tuple[LoopState, ...] = ()
    open_steps: int | None = None
    bad_steps: int | None = None
    state: JobState | None = None  # of the job before; None if there is no such job


@dataclass(frozen=True, slots=True)
class Ended:
    """The attempt that ends with its step."""

    attempt_id: int
    exit_code: int | None = None
    progress: int | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """Error and output of a final step."""

    error: str = ""
    output: Any = None
    has_output: bool = False
    output_sealed: bytes | None = None


NOTHING = Result()

LOCK = """
SELECT id, status, cancel_requested_at IS NOT NULL, open_steps, bad_steps, blueprint_id, generation,
    has_actions
FROM jobs_job WHERE id = %s FOR NO KEY UPDATE
"""

SETTLE = statement(__file__, "settle")

END_ATTEMPT = """
UPDATE jobs_attempt SET status = %s, ended_at = clock_timestamp(), exit_code = %s, error = %s,
    progress = coalesce(%s::smallint, progress)
WHERE id = %s AND ended_at IS NULL
"""

UNBLOCK = """
WITH s AS (
    UPDATE jobs_step t SET status = %(status)s, ready_at = clock_timestamp(), fair_rank = r.rank
    FROM unnest(%(ids)s::bigint[]) WITH ORDINALITY r(id, rank) WHERE t.id = r.id
        AND t.status = ANY(%(sources)s)
    RETURNING t.id, t.job_id, t.tag_set_id, t.fence
),
e AS (
    INSERT INTO jobs_stepevent (job_id, step_id, fence, kind) SELECT job_id, id, fence, %(event)s
        FROM s
)
SELECT tag_set_id, count(*) FROM s GROUP BY tag_set_id
"""
UNBLOCK_MANY = UNBLOCK.replace(
    "unnest(%(ids)s::bigint[]) WITH ORDINALITY", "unnest(%(ids)s::bigint[], %(ranks)s::int[])"
)

MOVE = """
WITH s AS (
    UPDATE jobs_step t SET status = %(status)s,
        retry_at = clock_timestamp() + make_interval(secs => %(wait_s)s),
        deadline_at = clock_timestamp() + make_interval(secs => %(deadline_s)s),
        started_at = CASE WHEN %(event)s = 'dispatched' THEN clock_timestamp() ELSE started_at END,
        suspended_at = CASE WHEN %(event)s = 'suspended' THEN clock_timestamp()
            ELSE suspended_at END,
        ready_at = CASE WHEN %(event)s IN ('returned', 'resumed') THEN clock_timestamp()
            ELSE ready_at END,
        attempts = attempts - CASE WHEN %(event)s IN ('returned', 'resumed') THEN 1 ELSE 0 END,
        losses = losses + CASE WHEN %(event)s = 'returned' AND %(is_loss)s THEN 1 ELSE 0 END,
        fence = fence + CASE WHEN %(event)s IN ('suspended', 'dispatched', 'parked') THEN 1
            ELSE 0 END,
        input = coalesce(%(input)s, input),
        worker_id = CASE WHEN %(event)s IN ('returned', 'resumed') THEN NULL ELSE worker_id END,
        error = %(detail)s
    WHERE t.id = %(id)s AND t.status = ANY(%(sources)s)
        AND (%(fence)s::int IS NULL OR t.fence = %(fence)s)
    RETURNING t.id, t.job_id, t.fence, t.tag_set_id
),
e AS (
    INSERT INTO jobs_stepevent (job_id, step_id, fence, kind, detail)
    SELECT job_id, id, fence, %(event)s, left(%(detail)s, 500) FROM s
)
SELECT fence, tag_set_id FROM s
"""

NOTE = """
INSERT INTO jobs_stepevent (job_id, kind, detail, actor)
VALUES (%s, %s, left(%s, 500), left(%s, 254))
"""
SAY = """
INSERT INTO jobs_logchunk (day, attempt_id, seq, job_id, step_id, lines, line_count)
VALUES ((clock_timestamp() AT TIME ZONE 'UTC')::date, 0, nextval('jobs_logchunk_id_seq'), %s, %s,
    %s, 1)
"""
NOTE_FAILURE = """
UPDATE jobs_job SET bad_steps = bad_steps + 1,
    cancel_reason = CASE WHEN cancel_reason = '' THEN %s ELSE cancel_reason END
WHERE id = %s
"""
JOB_MOVE = """
WITH s AS (
    UPDATE jobs_job SET status = %(status)s,
        started_at = CASE WHEN %(event)s = 'started' THEN clock_timestamp() ELSE started_at END,
        completed_at = CASE WHEN %(is_final)s THEN clock_timestamp() END,
        output = %(output)s, output_sealed = %(sealed)s, error = %(error)s, is_held = false,
        parent_told = CASE WHEN %(is_final)s AND parent_step_id IS NOT NULL THEN false
            ELSE parent_told END
    WHERE id = %(id)s AND status = ANY(%(sources)s)
    RETURNING id, parent_step_id, workspace_id
)
INSERT INTO jobs_stepevent (job_id, kind, detail, actor)
SELECT id, 'job_' || %(event)s, left(%(error)s, 500), %(actor)s FROM s
RETURNING (SELECT parent_step_id IS NOT NULL FROM s),
    CASE WHEN %(is_final)s THEN (
        SELECT ('job.' || %(status)s) = ANY(string_to_array(w.announced, ' '))
        FROM s JOIN workspaces_workspace w ON w.id = s.workspace_id
    ) ELSE false END
"""
START_MANY = """
WITH s AS (
    UPDATE jobs_job SET status = %(status)s, started_at = clock_timestamp()
    WHERE id = ANY(%(ids)s) AND status = ANY(%(sources)s) RETURNING id
)
INSERT INTO jobs_stepevent (job_id, kind) SELECT id, 'job_started' FROM s RETURNING 1
"""
# Columns of a job's relations that no decision reads.
HEAVY = ("revision__definition", "revision__sealed_secrets", "workspace__problems")


@dataclass(frozen=True, slots=True)
class JobMoved:
    """A job that has moved, whether a parent's step waits for its end, and whether somebody outside
    is told of it."""

    has_parent: bool
    is_told: bool = False


def note(job_id: UUID, kind: str, detail: str, *, actor: str = "") -> None:
    """Add an event to the job's history, which tells open pages to refresh."""
    fetch(NOTE, (job_id, kind, storable(detail), actor))


def say(job_id: UUID, text: str, *, at: float, step_id: int | None = None) -> None:
    """Add a server line to the job's log, under the step name `_server`, and to that of a step if
    it is about one."""
    fetch(SAY, (job_id, step_id, logged(at, "stderr", "_server", text)))


def logged(at: float, stream: str, step: str, text: str) -> str:
    """A log line in the form in which it is stored."""
    ts = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"ts": ts, "stream": stream, "step": step, "line": text.replace("\x00", "\ufffd")}
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "replace").decode() + "\n"


def note_failure(job_id: UUID, reason: str) -> None:
    """Let the job fail for a reason outside its flow. Called with the job locked."""
    fetch(NOTE_FAILURE, (storable(reason), job_id))


def lock(job_id: UUID) -> JobState | None:
    """The job, locked until the transaction ends; None if there is no such job."""
    row = fetch_one(LOCK, (job_id,))
    return JobState(*row) if row else None


def settle(
    job_id: UUID,
    step_ids: Sequence[int],
    event: StepEventKind,
    result: Result = NOTHING,
    *,
    fence: int | None = None,
    actor: str = "",
    sources: Iterable[StepStatus] | None = None,
    input: Any = None,
    ended: Ended | None = None,
) -> Settled:
    """Make steps final and update their dependents, their loops and their job, in one statement.

    `moved` may be smaller than the number of ids: steps in a status that `event` cannot leave, or
    with another fence, stay as they are.
    """
    if event not in FINAL_EVENTS:
        raise ValueError(f"{event} is not final")
    to = STEP_MOVES[event]
    params = {
        "job": job_id,
        "ids": list(step_ids),
        "status": to.target,
        "sources": [status.value for status in sources] if sources else to.sources,
        "event": event.value,
        "error": storable(result.error),
        "output": jsonb(result.output) if result.has_output else None,
        "has_output": result.has_output,
        "sealed": result.output_sealed,
        "fence": fence,
        "actor": actor,
        "input": jsonb(input) if input else None,
        "attempt": ended.attempt_id if ended else None,
        "exit_code": ended.exit_code if ended else None,
        "progress": ended.progress if ended else None,
    }
    row = fetch_one(SETTLE, params)
    assert row is not None
    moved, ready, loops, open_steps, bad_steps, state = row
    return Settled(
        moved,
        tuple(candidate(*item) for item in ready or ()),
        tuple(LoopState(*item) for item in loops or ()),
        open_steps,
        bad_steps,
        JobState(job_id, *state) if state else None,
    )


def candidate(
    id: int, base: str, completed: int, failed: int, skipped: int, tolerates: bool
) -> Candidate:
    return Candidate(id, base, Tally(completed, failed, skipped), tolerates)


def end_attempt(
    attempt_id: int,
    event: AttemptEventKind,
    *,
    exit_code: int | None = None,
    error: str = "",
    progress: int | None = None,
) -> None:
    status = target(ATTEMPT_TABLE, event)
    fetch(END_ATTEMPT, (status, exit_code, storable(error), progress, attempt_id))


def unblock(step_ids: Sequence[int]) -> dict[int, int]:
    """Make pending steps ready, ranked in this order. Returns how many became ready, by tag set
    id."""
    event = StepEventKind.UNBLOCKED
    to = STEP_MOVES[event]
    params = {
        "ids": list(step_ids),
        "status": to.target,
        "sources": to.sources,
        "event": event.value,
    }
    return dict(fetch(UNBLOCK, params))


def begin_many(roots: Mapping[UUID, Sequence[int]]) -> dict[int, int]:
    """Start new jobs, each with its steps without dependencies, in this order. Returns how many
    steps became ready, by tag set id."""
    started, ready = JOB_MOVES[JobEventKind.STARTED], STEP_MOVES[StepEventKind.UNBLOCKED]
    params: dict[str, Any] = {
        "ids": list(roots),
        "status": started.target,
        "sources": started.sources,
    }
    if len(fetch(START_MANY, params)) != len(roots):
        raise StaleMove("a new job was moved before it began")
    ranked = [(id, rank) for ids in roots.values() for rank, id in enumerate(ids, 1)]
    params = {
        "ids": [id for id, _ in ranked],
        "ranks": [rank for _, rank in ranked],
        "status": ready.target,
        "sources": ready.sources,
        "event": StepEventKind.UNBLOCKED.value,
    }
    return dict(fetch(UNBLOCK_MANY, params))


def move(
    step_id: int,
    event: StepEventKind,
    *,
    fence: int | None = None,
    wait_s: float | None = None,
    deadline_s: float | None = None,
    detail: str = "",
    input: Any = None,
    is_loss: bool = False,
) -> tuple[int, int | None]:
    """Move one step to a status that is not final; returns its fence and tag set id. Raises
    StaleMove if the step is elsewhere."""
    to = STEP_MOVES[event]
    params = {
        "id": step_id,
        "status": to.target,
        "sources": to.sources,
        "event": event.value,
        "fence": fence,
        "wait_s": wait_s,
        "deadline_s": deadline_s,
        "detail": storable(detail),
        "input": jsonb(input) if input is not None else None,
        "is_loss": is_loss,
    }
    row = fetch_one(MOVE, params)
    if row is None:
        raise StaleMove(f"step {step_id} cannot be {event.value} now: its status has changed")
    return row[0], row[1]


def move_job(
    job_id: UUID,
    event: JobEventKind,
    *,
    output: Mapping[str, Any] | None = None,
    output_sealed: bytes | None = None,
    error: str = "",
    actor: str = "",
) -> JobMoved | None:
    """Move a job; None if `event` cannot leave its status."""
    to = JOB_MOVES[event]
    params = {
        "id": job_id,
        "status": to.target,
        "sources": to.sources,
        "event": event.value,
        "is_final": to.target in FINAL_JOB,
        "output": jsonb(output) if output is not None else None,
        "error": storable(error),
        "actor": actor,
        "sealed": output_sealed,
    }
    row = fetch_one(JOB_MOVE, params)
    return JobMoved(*row) if row else None
