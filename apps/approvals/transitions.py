"""The pen of approvals: the status of a request, moved by one guarded statement at a time, and the
record of every attempt.

A request is open while its step is suspended with its fence. Its own status follows in the same
transaction, so that lists and badges need not read steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from apps.accounts.models import User
from apps.approvals.models import ApprovalRequest, Outcome, Record
from apps.jobs.database.sql import fetch, fetch_one
from engine.lifecycle import REQUEST_MOVES, RequestEventKind

LONGEST_DETAIL = 4096
CLOSE = """
UPDATE approvals_approvalrequest SET status = %(status)s, closed_at = clock_timestamp(),
    closed_by = %(by)s,
    reason = %(reason)s, remind_at = NULL
WHERE id = %(id)s AND status = ANY(%(sources)s) RETURNING closed_at
"""
CLOSE_OF_JOB = """
UPDATE approvals_approvalrequest SET status = 'cancelled', closed_at = clock_timestamp(),
    closed_by = %s, reason = %s,
    remind_at = NULL
WHERE job_id = %s AND status = 'open' RETURNING id
"""
CLOSE_ORPHANS = """
UPDATE approvals_approvalrequest r SET status = 'cancelled', closed_at = clock_timestamp(),
    remind_at = NULL
WHERE r.status = 'open' AND NOT EXISTS (
    SELECT 1 FROM jobs_step s WHERE s.id = r.step_id AND s.fence = r.fence
        AND s.status = 'suspended'
) RETURNING r.id
"""
STATE = """
SELECT s.status, r.status = 'open' AND s.status = 'suspended' AND s.fence = r.fence,
    coalesce(s.deadline_at <= clock_timestamp(), false), s.fence = r.fence, s.base,
        clock_timestamp()
FROM approvals_approvalrequest r JOIN jobs_step s ON s.id = r.step_id WHERE r.id = %s
"""
OVERDUE = """
SELECT r.id FROM jobs_step s JOIN approvals_approvalrequest r ON r.step_id = s.id
    AND r.fence = s.fence
WHERE s.deadline_at <= clock_timestamp() AND s.status = 'suspended'
    AND s.kind IN ('approval', 'agent') LIMIT %s
"""
TO_REMIND = """
SELECT id FROM approvals_approvalrequest WHERE status = 'open' AND remind_at <= clock_timestamp()
ORDER BY remind_at LIMIT %s
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """A signed-in user, their channel (api, admin, cli, link) and their address."""

    user: User
    via: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """The state of the step of a request, read under the lock of its job."""

    step_status: str
    is_open: bool
    is_late: bool
    is_of_this_suspension: bool
    base: str
    now: datetime


def state_of(request_id: int) -> State | None:
    row = fetch_one(STATE, (request_id,))
    return State(*row) if row else None


def close(
    request_id: int, event: RequestEventKind, *, by: str = "", reason: str = ""
) -> datetime | None:
    """Close an open request. Returns the time, or None if it was closed before."""
    to = REQUEST_MOVES[event]
    row = fetch_one(
        CLOSE,
        {"id": request_id, "status": to.target, "sources": to.sources, "by": by, "reason": reason},
    )
    return row[0] if row else None


def close_of_job(job_id: UUID, *, by: str, reason: str) -> list[int]:
    """Close the open requests of a cancelled job. Returns their ids."""
    return [row[0] for row in fetch(CLOSE_OF_JOB, (by, reason, job_id))]


def close_orphans() -> int:
    """Close requests whose step continued without them; there should never be any."""
    return len(fetch(CLOSE_ORPHANS, ()))


def overdue(limit: int) -> list[int]:
    return [row[0] for row in fetch(OVERDUE, (limit,))]


def to_remind(limit: int) -> list[int]:
    return [row[0] for row in fetch(TO_REMIND, (limit,))]


def record(
    request: ApprovalRequest,
    what: str,
    outcome: Outcome = Outcome.DONE,
    detail: str = "",
    *,
    by: Caller | None = None,
    actor: str = "",
) -> None:
    """Record what `by`, or the server, attempted. `request` comes with its workspace; `detail` must
    not contain secrets."""
    Record.objects.create(
        request_id=request.pk,
        job_id=request.job_id,
        workspace=request.workspace.name,
        task_name=request.task_name,
        step_name=request.step_name,
        actor=by.user.email if by else actor,
        what=what,
        outcome=outcome,
        detail=detail.replace("\x00", "\ufffd")[:LONGEST_DETAIL],
        via=by.via if by else "server",
        address=by.address[:100] if by else "",
    )
