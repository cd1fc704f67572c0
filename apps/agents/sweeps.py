"""What only time changes for agent steps that wait."""

from __future__ import annotations

import logging
from uuid import UUID

from django.db import DatabaseError

from apps.agents.models import Call, Conversation
from apps.jobs import bells
from apps.jobs.database.sql import fetch, retried
from apps.jobs.flow import blueprints, cancellation
from apps.jobs.flow.advance import advancing
from apps.jobs.transitions import rows
from apps.jobs.transitions.moves import Result
from engine.errors import StroemError
from engine.lifecycle import CallStatus, StepEventKind

log = logging.getLogger("stroem.sweep")
BATCH = 500
OVERDUE = """
SELECT s.job_id, s.id, v.id, s.timeout_s FROM jobs_step s
JOIN agents_conversation v ON v.step_id = s.id AND v.parked_fence = s.fence
WHERE s.deadline_at < clock_timestamp() AND s.status = 'running' AND s.kind = 'agent' LIMIT %s
"""


def overdue_agents() -> int:
    """Fail agent steps whose time is over while child jobs work for them, and cancel those."""
    done = 0
    for job_id, step_id, conversation_id, timeout_s in fetch(OVERDUE, (BATCH,)):
        try:
            _time_out(job_id, step_id, conversation_id, timeout_s)
            done += 1
        except (StroemError, DatabaseError) as error:
            log.warning("overdue agent: %s: %s", step_id, error)
    return done


def _time_out(job_id: UUID, step_id: int, conversation_id: int, timeout_s: float | None) -> None:
    if not _fail(job_id, step_id, conversation_id, timeout_s):
        return
    waiting = Call.objects.filter(conversation_id=conversation_id, status=CallStatus.BEGUN)
    for child_id in waiting.values_list("child_job_id", flat=True):
        if child_id is not None:
            cancellation.forsake(child_id, "Parent step timed out")


@retried
def _fail(job_id: UUID, step_id: int, conversation_id: int, timeout_s: float | None) -> bool:
    advance = advancing(job_id, blueprints.load)
    row = Conversation.objects.filter(pk=conversation_id).first()
    if advance is None or row is None or row.parked_fence is None:
        return False
    what = "Step timed out" if timeout_s is None else f"Step timed out after {timeout_s:g}s"
    moved = advance.settle(
        [step_id],
        StepEventKind.FAILED,
        Result(error=what),
        fence=row.parked_fence,
        base=rows.flow_name_of(step_id),
    )
    advance.run()
    bells.ring_after_commit(advance.bells)
    return bool(moved)
