"""New rows: the steps of a job, the instances of a loop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
from django.db import connection
from psycopg.types.json import Jsonb

from apps.jobs.sql import fetch

COLUMNS = [
    "id",
    "job_id",
    "name",
    "base",
    "position",
    "kind",
    "runner",
    "tag_set_id",
    "dependents",
    "deps_left",
    "tolerates",
    "priority",
    "timeout_s",
]
COPY = f"COPY jobs_step ({', '.join(COLUMNS)}, status) FROM STDIN"

INSTANCES = """
WITH i AS (
    INSERT INTO jobs_step (job_id, name, base, position, kind, runner, tag_set_id, dependents, tolerates, priority,
        timeout_s, loop_id, loop_index, loop_total, loop_item)
    SELECT p.job_id, p.base || '[' || (x.n - 1) || ']', p.base, p.position, p.kind, p.runner, p.tag_set_id, '{}',
        p.tolerates, p.priority, p.timeout_s, p.id, x.n - 1, %(total)s, x.item
    FROM jobs_step p, jsonb_array_elements(%(items)s) WITH ORDINALITY x(item, n) WHERE p.id = %(loop)s
    RETURNING id, loop_index
)
SELECT id FROM i ORDER BY loop_index LIMIT %(released)s
"""
OPEN_LOOP = """
UPDATE jobs_step SET loop_open = %(total)s, loop_total = %(total)s, loop_failed = 0, loop_next = %(released)s
WHERE id = %(loop)s
"""
RELEASE = """
WITH i AS (
    SELECT id, loop_index FROM jobs_step WHERE loop_id = %(loop)s AND status = 'pending' AND retry_at IS NULL
    ORDER BY loop_index LIMIT %(count)s
),
p AS (UPDATE jobs_step SET loop_next = loop_next + (SELECT count(*) FROM i) WHERE id = %(loop)s)
SELECT id FROM i ORDER BY loop_index
"""


def reserve_ids(count: int) -> list[int]:
    """Step ids that nobody else will use."""
    rows = fetch("SELECT nextval(pg_get_serial_sequence('jobs_step', 'id')) FROM generate_series(1, %s)", (count,))
    return [row[0] for row in rows]


def insert_steps(rows: Sequence[tuple[Any, ...]]) -> None:
    """Write steps, all pending. `rows` are tuples in the order of COLUMNS."""
    connection.ensure_connection()
    with psycopg.Cursor(connection.connection) as cursor, cursor.copy(COPY) as copy:
        for row in rows:
            copy.write_row((*row, "pending"))


def open_loop(loop_id: int, items: Sequence[Any], *, released: int) -> list[int]:
    """Write one pending instance per item, in one statement. Returns the ids of the first `released` ones."""
    total = len(items)
    params = {"loop": loop_id, "items": Jsonb(list(items)), "total": total, "released": released}
    ids = [row[0] for row in fetch(INSTANCES, params)]
    fetch(OPEN_LOOP, params)
    return ids


def release(loop_id: int, count: int) -> list[int]:
    """Ids of the next `count` instances of a loop, in order; they are the caller's to make ready."""
    return [row[0] for row in fetch(RELEASE, {"loop": loop_id, "count": count})]


def loop_results(loop_id: int) -> tuple[tuple[int, ...], bool]:
    """Indices of failed and cancelled instances, and whether any output is sealed."""
    failed = fetch(
        "SELECT loop_index FROM jobs_step WHERE loop_id = %s AND status IN ('failed', 'cancelled') ORDER BY loop_index",
        (loop_id,),
    )
    return tuple(row[0] for row in failed), has_sealed(loop_id)


def has_sealed(loop_id: int) -> bool:
    """Whether any instance of the loop holds a sealed output."""
    return bool(fetch("SELECT 1 FROM jobs_step WHERE loop_id = %s AND output_sealed IS NOT NULL LIMIT 1", (loop_id,)))


def unreleased(loop_id: int) -> list[int]:
    """Ids of instances that were never released."""
    rows = fetch(
        """
        SELECT id FROM jobs_step WHERE loop_id = %s AND status = 'pending' AND retry_at IS NULL
        """,
        (loop_id,),
    )
    return [row[0] for row in rows]


def instances(step_ids: Sequence[int]) -> list[tuple[int, str, Any, int, int]]:
    """(id, name, item, index, total) of loop instances."""
    rows = fetch(
        "SELECT id, name, loop_item::text, loop_index, loop_total FROM jobs_step WHERE id = ANY(%s) ORDER BY 4",
        (list(step_ids),),
    )
    return [(id, name, json.loads(item), index, total) for id, name, item, index, total in rows]


def aggregate_loop(loop_id: int) -> None:
    """Store the outputs of a loop's instances on the loop step, in order of index, null where there is none."""
    fetch(
        """
        UPDATE jobs_step SET has_output = true, output = (
            SELECT jsonb_agg(coalesce(i.output, 'null') ORDER BY i.loop_index) FROM jobs_step i
            WHERE i.loop_id = %(loop)s
        ) WHERE id = %(loop)s
        """,
        {"loop": loop_id},
    )


def waiting_steps(job_id: UUID) -> list[int]:
    """Ids of steps that no worker, child job or loop has in hand, cancellable at once."""
    rows = fetch(
        "SELECT id FROM jobs_step WHERE job_id = %s AND status IN ('pending', 'ready', 'suspended')", (job_id,)
    )
    return [row[0] for row in rows]


def cancelled_bases(step_ids: Sequence[int]) -> list[str]:
    """Flow names of those of these steps that are cancelled, loop instances left out."""
    rows = fetch(
        "SELECT base FROM jobs_step WHERE id = ANY(%s) AND status = 'cancelled' AND loop_id IS NULL", (list(step_ids),)
    )
    return [row[0] for row in rows]


def adopt(step_id: int, child_job_id: UUID) -> None:
    """Note which child job carries out a step."""
    fetch("UPDATE jobs_step SET child_job_id = %s WHERE id = %s", (child_job_id, step_id))


def base_of(step_id: int | None) -> str:
    rows = fetch("SELECT base FROM jobs_step WHERE id = %s", (step_id,))
    return rows[0][0] if rows else ""


def each_of(step_id: int) -> dict[str, Any]:
    """What `each` is in the templates of a loop instance."""
    ((_, _, item, index, total),) = instances([step_id])
    return {"item": item, "index": index, "total": total}
