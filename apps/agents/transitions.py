"""The pen of agents: the status of a tool call, moved by one guarded statement at a time, and what
guards all writes of a process: it must still hold the attempt."""

from __future__ import annotations

from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_one, storable
from apps.jobs.values import Claim
from engine.lifecycle import CALL_TABLE, CallEventKind, sources, target

# Locks the attempt, so that its loss waits for what is written under it.
HOLD = """
SELECT 1 FROM jobs_attempt WHERE id = %s AND fence = %s AND ended_at IS NULL
    AND lease_until > clock_timestamp() FOR NO KEY UPDATE
"""
MOVE = """
UPDATE agents_call SET status = %(status)s,
    begun_at = CASE WHEN %(event)s = 'begun' THEN clock_timestamp() ELSE begun_at END,
    ended_at = CASE WHEN %(event)s IN ('done', 'failed', 'refused') THEN clock_timestamp() END,
    result = coalesce(%(result)s, result), child_job_id = coalesce(%(child)s, child_job_id)
WHERE id = %(id)s AND status = ANY(%(sources)s) RETURNING 1
"""
ADOPT = "UPDATE agents_call SET child_job_id = %s WHERE child_job_id = %s AND status = 'begun'"
HOLDS = """
SELECT 1 FROM agents_call c JOIN agents_conversation v ON v.id = c.conversation_id
JOIN jobs_step s ON s.id = v.step_id JOIN jobs_job j ON j.id = s.job_id
WHERE c.child_job_id = %s AND c.status = 'begun' AND j.cancel_requested_at IS NULL
    AND s.status IN ('ready', 'running', 'suspended')
FOR NO KEY UPDATE OF c
"""


def hold(claim: Claim) -> bool:
    """Whether the attempt is still the caller's; it stays so until the transaction ends."""
    return fetch_one(HOLD, (claim.attempt_id, claim.fence)) is not None


def move(
    call_id: int, event: CallEventKind, *, result: str | None = None, child: UUID | None = None
) -> bool:
    """Move a call; False if it is elsewhere."""
    params = {
        "id": call_id,
        "status": target(CALL_TABLE, event).value,
        "sources": [status.value for status in sources(CALL_TABLE, event)],
        "event": event.value,
        "result": None if result is None else storable(result),
        "child": child,
    }
    return bool(fetch(MOVE, params))


def adopt(child_id: UUID, following_id: UUID) -> None:
    """Another run has taken the place of a failed child job."""
    fetch(ADOPT, (following_id, child_id))


def holds(child_id: UUID) -> bool:
    """Whether a call waits for this child job; its row is then locked."""
    return fetch_one(HOLDS, (child_id,)) is not None
