"""The instances of loops, and what the rows of steps hold besides their status."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import fetch, jsonb
from apps.jobs.transitions.moves import LoopState

INSTANCES = """
WITH i AS (
    INSERT INTO jobs_step (job_id, name, base, position, kind, runner, tag_set_id, dependents,
        tolerates, priority,
        timeout_s, loop_id, loop_index, loop_total, loop_item, loop_item_sealed)
    SELECT p.job_id, p.base || '[' || (x.n - 1) || ']', p.base, p.position, p.kind, p.runner,
        p.tag_set_id, '{}',
        p.tolerates, p.priority, p.timeout_s, p.id, x.n - 1, %(total)s, x.item, y.sealed
    FROM jobs_step p
    CROSS JOIN jsonb_array_elements(%(items)s) WITH ORDINALITY x(item, n)
    LEFT JOIN unnest(%(sealed)s::bytea[]) WITH ORDINALITY y(sealed, n) ON y.n = x.n
    WHERE p.id = %(loop)s
    RETURNING id, loop_index
)
SELECT id FROM i ORDER BY loop_index LIMIT %(released)s
"""
OPEN_LOOP = """
UPDATE jobs_step SET loop_open = %(total)s, loop_total = %(total)s, loop_failed = 0,
    loop_next = %(released)s
WHERE id = %(loop)s
"""
LOOP_STATE = """
SELECT id, base, loop_open, loop_failed, loop_next, loop_total FROM jobs_step
WHERE id = %s AND loop_total IS NOT NULL AND loop_id IS NULL
"""
RELEASE = """
WITH i AS (
    SELECT id, loop_index FROM jobs_step WHERE loop_id = %(loop)s AND status = 'pending'
        AND retry_at IS NULL
    ORDER BY loop_index LIMIT %(count)s
),
p AS (UPDATE jobs_step SET loop_next = loop_next + (SELECT count(*) FROM i) WHERE id = %(loop)s)
SELECT id FROM i ORDER BY loop_index
"""
STEP_ASIDE = """
UPDATE jobs_step p SET loop_next = p.loop_next - 1 FROM jobs_step i
WHERE i.id = %s AND p.id = i.loop_id
RETURNING p.id, p.base, p.loop_open, p.loop_failed, p.loop_next, p.loop_total
"""
RELEASE_AGAIN = """
WITH i AS (
    SELECT id, retry_at FROM jobs_step WHERE retry_at <= clock_timestamp() AND status = 'pending'
        AND loop_id = %(loop)s
    ORDER BY retry_at LIMIT %(count)s
),
p AS (UPDATE jobs_step SET loop_next = loop_next + (SELECT count(*) FROM i) WHERE id = %(loop)s)
SELECT id FROM i ORDER BY retry_at
"""
HOLD_WAITING = """
SELECT 1 FROM jobs_step s JOIN jobs_job j ON j.id = s.job_id
WHERE s.id = %s AND s.child_job_id = %s AND s.status = 'running' AND j.cancel_requested_at IS NULL
FOR NO KEY UPDATE OF s
"""


NOTE_LOAN = """
INSERT INTO jobs_stepevent (job_id, kind, detail) SELECT %s, 'job_uses_foreign', unnest(%s::text[])
RETURNING 1
"""


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a loop: `item` is masked JSON text, `sealed` the item itself if that
    differs."""

    id: int
    name: str
    item: str
    sealed: bytes | None
    index: int
    total: int


def open_loop(
    loop_id: int, items: Sequence[Any], sealed: Sequence[bytes | None] | None, *, released: int
) -> list[int]:
    """Write one pending instance per item, in one statement. Returns the ids of the first
    `released` ones. `items` are masked; `sealed` holds those with secrets, or is None if there are
    none."""
    total = len(items)
    params = {"loop": loop_id, "items": jsonb(list(items)), "total": total, "released": released}
    params["sealed"] = None if sealed is None else list(sealed)
    ids = [row[0] for row in fetch(INSTANCES, params)]
    fetch(OPEN_LOOP, params)
    return ids


def loop_state(loop_id: int) -> LoopState | None:
    """The state of a loop that was opened before; None if it has no instances."""
    found = fetch(LOOP_STATE, (loop_id,))
    return LoopState(*found[0]) if found else None


def release(loop_id: int, count: int) -> list[int]:
    """Ids of the next `count` instances of a loop, in order; the caller makes them ready."""
    return [row[0] for row in fetch(RELEASE, {"loop": loop_id, "count": count})]


def step_aside(instance_id: int) -> LoopState:
    """Let an instance that waits for its retry give up its place. Returns the state of its loop."""
    ((*state,),) = fetch(STEP_ASIDE, (instance_id,))
    return LoopState(*state)


def release_again(loop_id: int, count: int) -> list[int]:
    """Ids of at most `count` instances whose retry is due; the caller makes them ready."""
    return [row[0] for row in fetch(RELEASE_AGAIN, {"loop": loop_id, "count": count})]


def loop_results(loop_id: int) -> tuple[tuple[int, ...], bool]:
    """Indexes of failed and cancelled instances, and whether any output is sealed."""
    failed = fetch(
        "SELECT loop_index FROM jobs_step WHERE loop_id = %s AND status IN ('failed', 'cancelled')"
        " ORDER BY loop_index",
        (loop_id,),
    )
    return tuple(row[0] for row in failed), has_sealed(loop_id)


def has_sealed(loop_id: int) -> bool:
    """Whether any instance of the loop has a sealed output."""
    return bool(
        fetch(
            "SELECT 1 FROM jobs_step WHERE loop_id = %s AND output_sealed IS NOT NULL LIMIT 1",
            (loop_id,),
        )
    )


def unreleased(loop_id: int) -> list[int]:
    """Ids of instances that were never released."""
    rows = fetch(
        """
        SELECT id FROM jobs_step WHERE loop_id = %s AND status = 'pending' AND retry_at IS NULL
        """,
        (loop_id,),
    )
    return [row[0] for row in rows]


def instances(step_ids: Sequence[int]) -> list[Instance]:
    """Instances of a loop, in order."""
    rows = fetch(
        "SELECT id, name, loop_item::text, loop_item_sealed, loop_index, loop_total FROM jobs_step"
        " WHERE id = ANY(%s) ORDER BY loop_index",
        (list(step_ids),),
    )
    return [Instance(*row) for row in rows]


def aggregate_loop(loop_id: int) -> None:
    """Store the outputs of a loop's instances on the loop step, in order of index; null for one
    that has none or did not complete."""
    fetch(
        """
        UPDATE jobs_step SET has_output = true, output = (
            SELECT jsonb_agg(coalesce(i.output, 'null') ORDER BY i.loop_index)
            FROM (SELECT loop_index, CASE WHEN status = 'completed' THEN output END AS output
                FROM jobs_step WHERE loop_id = %(loop)s) i
        ) WHERE id = %(loop)s
        """,
        {"loop": loop_id},
    )


def waiting_steps(job_id: UUID) -> list[int]:
    """Ids of steps that no worker, child job or loop is working on; they can be cancelled at
    once."""
    rows = fetch(
        "SELECT id FROM jobs_step WHERE job_id = %s AND owner_kind = 'step'"
        " AND status IN ('pending', 'ready', 'suspended') ORDER BY id",
        (job_id,),
    )
    return [row[0] for row in rows]


def cancelled_bases(step_ids: Sequence[int]) -> list[str]:
    """Flow names of the cancelled ones among these steps, without loop instances."""
    rows = fetch(
        "SELECT base FROM jobs_step WHERE id = ANY(%s) AND status = 'cancelled' AND loop_id IS"
        " NULL",
        (list(step_ids),),
    )
    return [row[0] for row in rows]


def await_decision(step_id: int, output: Any) -> tuple[datetime, datetime | None]:
    """Store what a suspended step shows. Returns since when it waits, and until when."""
    ((suspended_at, deadline_at),) = fetch(
        "UPDATE jobs_step SET output = %s, has_output = true WHERE id = %s RETURNING suspended_at,"
        " deadline_at",
        (jsonb(output), step_id),
    )
    return suspended_at, deadline_at


def began(step_id: int, at: datetime) -> None:
    """A running step that was taken up again has been at work since `at`."""
    fetch(
        "UPDATE jobs_step SET started_at = least(started_at, %s) WHERE id = %s"
        " AND status = 'running'",
        (at, step_id),
    )


def forget_output(step_id: int) -> None:
    """Remove what a suspended step showed, now that it goes on."""
    fetch(
        "UPDATE jobs_step SET output = NULL, has_output = false WHERE id = %s AND status = 'ready'",
        (step_id,),
    )


def adopt(step_id: int, child_job_id: UUID) -> None:
    """Note which child job carries out a step."""
    fetch("UPDATE jobs_step SET child_job_id = %s WHERE id = %s", (child_job_id, step_id))


def hold_waiting(step_id: int, child_job_id: UUID) -> bool:
    """Whether a step waits for this child job, in a job that does not stop. If so, the step is
    locked until the transaction ends, so that another child can take the place of this one."""
    return bool(fetch(HOLD_WAITING, (step_id, child_job_id)))


def is_waiting_for(step_id: int | None, child_job_id: UUID) -> bool:
    """Whether a step is running and this child job carries it out. The step's job must be
    locked."""
    sql = "SELECT 1 FROM jobs_step WHERE id = %s AND child_job_id = %s AND status = 'running'"
    return bool(fetch(sql, (step_id, child_job_id)))


def ended(step_id: int) -> tuple[str, datetime]:
    """The name of a final step, and when it ended."""
    ((name, completed_at),) = fetch(
        "SELECT name, completed_at FROM jobs_step WHERE id = %s", (step_id,)
    )
    return name, completed_at


def flow_name_of(step_id: int | None) -> str:
    """Name of a step in its flow; empty for a loop instance."""
    rows = fetch("SELECT base FROM jobs_step WHERE id = %s AND loop_id IS NULL", (step_id,))
    return rows[0][0] if rows else ""


def note_loans(job_id: UUID, loans: Sequence[str]) -> None:
    """Record which actions of other workspaces a new job uses."""
    fetch(NOTE_LOAN, (job_id, list(loans)))
