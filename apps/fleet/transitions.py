"""The pen of worker sessions and allocations: guarded moves, one statement each."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.db import connection

from engine.lifecycle import (
    ALLOCATION_TABLE,
    SESSION_TABLE,
    AllocationEventKind,
    SessionEventKind,
    sources,
    target,
)

OPEN_SESSION = """
INSERT INTO fleet_workersession (job_id, generation, worker_id, allocation_id, status, started_at)
VALUES (%s, %s, %s, %s, 'open', clock_timestamp()) ON CONFLICT DO NOTHING RETURNING id
"""
MOVE_SESSION = """
UPDATE fleet_workersession SET status = %(to)s, reason = CASE WHEN reason = '' THEN %(reason)s
    ELSE reason END,
    ended_at = CASE WHEN %(to)s IN ('closed', 'lost') THEN clock_timestamp() END
WHERE id = %(id)s AND status = ANY(%(sources)s) RETURNING 1
"""
OPEN_ALLOCATION = """
INSERT INTO fleet_allocation
    (id, job_id, action_id, part, number, scheduler, script, status, error, requested_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, 'requested', '', clock_timestamp()) ON CONFLICT DO NOTHING
"""
MOVE_ALLOCATION = """
UPDATE fleet_allocation SET status = %(to)s, state = %(state)s,
    error = CASE WHEN %(error)s <> '' THEN %(error)s WHEN %(slurm_job_id)s <> '' THEN ''
        ELSE error END,
    reason = %(reason)s,
    cluster = CASE WHEN %(cluster)s = '' THEN cluster ELSE %(cluster)s END,
    nodes = CASE WHEN %(nodes)s = '' THEN nodes ELSE %(nodes)s END,
    slurm_job_id = CASE WHEN %(slurm_job_id)s = '' THEN slurm_job_id ELSE %(slurm_job_id)s END,
    submitted_at = CASE WHEN %(slurm_job_id)s <> '' AND submitted_at IS NULL THEN clock_timestamp()
        ELSE submitted_at END,
    started_at = CASE WHEN %(to)s = 'active' AND started_at IS NULL THEN clock_timestamp()
        WHEN %(to)s = 'pending' THEN NULL ELSE started_at END,
    ended_at = CASE WHEN %(to)s IN ('complete', 'failed', 'lost') THEN clock_timestamp() END,
    seen_at = clock_timestamp()
WHERE id = %(id)s AND status = ANY(%(sources)s) RETURNING 1
"""


def _one(statement: str, params: Any) -> tuple[Any, ...] | None:
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        row: tuple[Any, ...] | None = cursor.fetchone()
        return row


def open_session(
    job_id: UUID, generation: int, worker_id: UUID, allocation_id: UUID | None
) -> int | None:
    """The id of a new session; None if it exists already."""
    row = _one(OPEN_SESSION, [job_id, generation, worker_id, allocation_id])
    return row[0] if row else None


def move_session(session_id: int, event: SessionEventKind, *, reason: str = "") -> bool:
    """Move a session; False if its status does not allow it."""
    params = {
        "id": session_id,
        "to": target(SESSION_TABLE, event),
        "sources": list(sources(SESSION_TABLE, event)),
        "reason": reason[:200],
    }
    return _one(MOVE_SESSION, params) is not None


def open_allocation(
    allocation_id: UUID,
    job_id: UUID,
    action_id: int,
    part: int,
    number: int,
    scheduler: str,
    script: str,
) -> None:
    """Record nodes that are about to be requested; an existing row stays as it is."""
    with connection.cursor() as cursor:
        cursor.execute(
            OPEN_ALLOCATION, [allocation_id, job_id, action_id, part, number, scheduler, script]
        )


def move_allocation(
    allocation_id: UUID,
    event: AllocationEventKind,
    *,
    state: str = "",
    error: str = "",
    nodes: str = "",
    slurm_job_id: str = "",
    cluster: str = "",
    reason: str = "",
) -> bool:
    """Move an allocation; False if its status does not allow it. With its number, what Slurm said
    of earlier tries is forgotten."""
    params = {
        "id": allocation_id,
        "to": target(ALLOCATION_TABLE, event),
        "sources": list(sources(ALLOCATION_TABLE, event)),
        "state": state,
        "error": error,
        "nodes": nodes,
        "slurm_job_id": slurm_job_id,
        "cluster": cluster,
        "reason": reason,
    }
    return _one(MOVE_ALLOCATION, params) is not None
