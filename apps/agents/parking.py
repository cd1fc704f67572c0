"""Waiting without a slot: a step is parked, and woken when its last open call is answered. All of
it under the lock of the job."""

from __future__ import annotations

from enum import StrEnum

from django.db.models.functions import Now

from apps.agents import asking, transitions
from apps.agents.models import Call, Conversation
from apps.jobs import bells
from apps.jobs.database.sql import retried
from apps.jobs.flow import blueprints
from apps.jobs.flow.advance import Advance, advancing
from apps.jobs.transitions import moves as pen
from apps.jobs.transitions import rows
from apps.jobs.transitions.moves import Result
from apps.jobs.values import Claim
from engine.errors import StaleMove
from engine.lifecycle import OPEN_CALL, AttemptEventKind, CallStatus, StepEventKind
from engine.planner import JOB_CANCELLED

LONGEST_WHY = 300


class Parked(StrEnum):
    PARKED = "parked"
    GO_ON = "go on"  # nothing is open any more
    CANCELLED = "cancelled"
    LOST = "lost"  # the attempt is no longer the caller's


@retried
def park(claim: Claim, conversation_id: int, left_s: float | None) -> Parked:
    """End the attempt and let the step wait for its open calls. `left_s`: until its time-out."""
    advance = advancing(claim.job_id, blueprints.load)
    if advance is None or not transitions.hold(claim):
        return Parked.LOST
    if advance.state.is_cancelling:
        return Parked.CANCELLED
    row = Conversation.objects.get(pk=conversation_id)
    if not _open_calls(row):
        return Parked.GO_ON
    pen.end_attempt(claim.attempt_id, AttemptEventKind.SUCCEEDED)
    waiting = Call.objects.filter(conversation=row, status=CallStatus.ASKED)
    asked = waiting.order_by("seq", "index").first()
    if asked is not None:
        fence = asking.ask(advance, row, claim.base, claim.fence, asked)
        Conversation.objects.filter(pk=row.pk).update(asked_at=Now())
    else:
        fence, _ = pen.move(
            claim.step_id, StepEventKind.PARKED, fence=claim.fence, deadline_s=left_s
        )
    Conversation.objects.filter(pk=row.pk).update(parked_fence=fence, stints=0)
    return Parked.PARKED


@retried
def ask_for_more(claim: Claim, conversation_id: int, why: str) -> Parked:
    """End the attempt and let the step wait for people, who may raise its limits."""
    advance = advancing(claim.job_id, blueprints.load)
    if advance is None or not transitions.hold(claim):
        return Parked.LOST
    if advance.state.is_cancelling:
        return Parked.CANCELLED
    row = Conversation.objects.get(pk=conversation_id)
    pen.end_attempt(claim.attempt_id, AttemptEventKind.SUCCEEDED)
    fence = asking.ask_for_more(advance, row, claim.base, claim.fence, why)
    Conversation.objects.filter(pk=row.pk).update(
        asked_at=Now(), wants_more=why[:LONGEST_WHY], parked_fence=fence, stints=0
    )
    return Parked.PARKED


def _open_calls(row: Conversation) -> bool:
    return Call.objects.filter(conversation=row, status__in=OPEN_CALL).exists()


def wake(advance: Advance, row: Conversation) -> None:
    """Make a parked step ready if none of its calls is open."""
    row.refresh_from_db()
    if row.parked_fence is None or row.asked_at is not None or _open_calls(row):
        return
    resume(advance, row)


def resume(advance: Advance, row: Conversation) -> None:
    """Make a parked step ready, or end it with its job."""
    assert row.parked_fence is not None
    if advance.state.is_cancelling:
        result = Result(error=JOB_CANCELLED)
        base = rows.flow_name_of(row.step_id)
        advance.settle(
            [row.step_id], StepEventKind.CANCELLED, result, fence=row.parked_fence, base=base
        )
        advance.run()
    else:
        try:
            _, tag_set_id = pen.move(row.step_id, StepEventKind.RESUMED, fence=row.parked_fence)
        except StaleMove:
            return  # it has ended, or begins anew
        assert tag_set_id is not None
        advance.bells[tag_set_id] += 1
    rows.forget_output(row.step_id)  # the question that it showed
    Conversation.objects.filter(pk=row.pk).update(parked_fence=None)
    bells.ring_after_commit(advance.bells)
