"""The end of an attempt: guarded by its fence, counted and advanced in one transaction, without a
server hop."""

from __future__ import annotations

import random
from typing import Any
from uuid import UUID

from django.conf import settings

from apps.jobs.database.sql import fetch_one, retried
from apps.jobs.flow import blueprints
from apps.jobs.flow.advance import Advance, advancing
from apps.jobs.flow.redaction import masked_result, shown
from apps.jobs.transitions import moves as pen
from apps.jobs.transitions.compiled import Completion
from apps.jobs.transitions.moves import Ended, Result
from apps.jobs.values import Report
from engine import planner
from engine.errors import StaleMove
from engine.lifecycle import StepEventKind, StepStatus
from engine.masking import masker
from engine.orders import StepOutcome, Verdict
from engine.planner import Settlement, Tries

STATUS = {
    StepEventKind.SUCCEEDED: "completed",
    StepEventKind.FAILED: "failed",
    StepEventKind.RETRIED: "failed",
    StepEventKind.CANCELLED: "cancelled",
    StepEventKind.RETURNED: "lost",
}
# A step that waits for its next run keeps the fence of the last one: the report of that one comes
# too late.
RUNNING = (StepStatus.RUNNING,)
TRIES = "SELECT attempts, losses FROM jobs_step WHERE id = %s AND fence = %s AND status = 'running'"
LOST = """
SELECT a.job_id, a.step_id, a.fence, a.started_at IS NOT NULL, s.base, s.name,
    coalesce(w.name, a.worker_id::text)
FROM jobs_attempt a JOIN jobs_step s ON s.id = a.step_id LEFT JOIN fleet_worker w
    ON w.id = a.worker_id
WHERE a.id = %s AND a.ended_at IS NULL
"""


def finish(report: Report) -> tuple[bool, dict[int, int]]:
    """Settle a reported attempt. Returns whether it counted, and how many steps became ready by tag
    set id."""
    if report.outcome.verdict is Verdict.LOST:
        return lose(report.claim.attempt_id, reason=masker(report.masks).text(report.outcome.error))
    return _finish(report)


def compiled(report: Report) -> Completion | None:
    """What to tell the compiled statement, when the report is one that it may take."""
    claim, outcome = report.claim, report.outcome
    if outcome.verdict is not Verdict.SUCCEEDED or claim.step_name != claim.base:
        return None
    if not blueprints.load(claim.blueprint_id).nodes[claim.base].leads_to_plain:
        return None
    result = masked_result(
        Result(output=outcome.output, has_output=outcome.has_output), report.masks
    )
    return Completion(
        claim.job_id,
        claim.step_id,
        claim.fence,
        claim.attempt_id,
        outcome.exit_code,
        result,
        shown(report.input, report.masks),
    )


@retried
def _finish(report: Report) -> tuple[bool, dict[int, int]]:
    return _succeed(report) if report.outcome.verdict is Verdict.SUCCEEDED else _fail(report)


def _succeed(report: Report) -> tuple[bool, dict[int, int]]:
    """The common end: nothing to decide, so the statement that settles the step also takes the
    lock."""
    claim, outcome = report.claim, report.outcome
    result = masked_result(
        Result(output=outcome.output, has_output=outcome.has_output), report.masks
    )
    settled = pen.settle(
        claim.job_id,
        [claim.step_id],
        StepEventKind.SUCCEEDED,
        result,
        fence=claim.fence,
        sources=RUNNING,
        input=shown(report.input, report.masks),
        ended=Ended(claim.attempt_id, outcome.exit_code),
    )
    if not settled.moved or settled.state is None:
        return False, {}
    advance = Advance(settled.state, blueprints.load(settled.state.blueprint_id))
    advance.absorb(settled)
    advance.note(claim.step_name, StepEventKind.SUCCEEDED)
    advance.run()
    return True, dict(advance.bells)


def _fail(report: Report) -> tuple[bool, dict[int, int]]:
    claim, outcome = report.claim, report.outcome
    advance = advancing(claim.job_id, blueprints.load)
    tries = fetch_one(TRIES, (claim.step_id, claim.fence))
    if advance is None or tries is None:
        return False, {}
    settlement = planner.settle(
        outcome,
        Tries(tries[0], tries[1], advance.plan.nodes[claim.base].retry),
        is_cancelling=advance.state.is_cancelling,
        chance=random.random(),
    )
    result = masked_result(Result(error=settlement.error), report.masks)
    seen = shown(report.input, report.masks)
    if not _write(advance, claim.step_id, claim.fence, claim.step_name, settlement, result, seen):
        return False, {}
    pen.end_attempt(
        claim.attempt_id, STATUS[settlement.event], exit_code=outcome.exit_code, error=result.error
    )
    advance.run()
    return True, dict(advance.bells)


def _write(
    advance: Advance,
    step_id: int,
    fence: int,
    base: str,
    settlement: Settlement,
    result: Result,
    seen: Any,
    *,
    is_loss: bool = False,
) -> bool:
    """Move the step; False when its fence says that the report is late."""
    if settlement.event in pen.FINAL_EVENTS:
        return bool(
            advance.settle([step_id], settlement.event, result, fence=fence, base=base, input=seen)
        )
    try:
        _, tag_set_id = pen.move(
            step_id,
            settlement.event,
            fence=fence,
            wait_s=settlement.wait_s,
            detail=result.error,
            is_loss=is_loss,
            input=seen or None,
        )
    except StaleMove:
        return False
    if settlement.event is StepEventKind.RETURNED and tag_set_id is not None:
        advance.bells[tag_set_id] += 1
    return True


@retried
def lose(attempt_id: int, *, is_loss: bool = True, reason: str = "") -> tuple[bool, dict[int, int]]:
    """Settle an attempt whose worker went away, gave it back or says for what `reason` it was lost.
    Harmless when it has ended meanwhile."""
    row = fetch_one(LOST, (attempt_id,))
    if row is None:
        return False, {}
    job_id, step_id, fence, had_started, base, step_name, worker_name = row
    had_started = had_started and is_loss  # who gives a step back knows that its process never was
    advance = advancing(job_id, blueprints.load)
    assert advance is not None
    tries = fetch_one(TRIES, (step_id, fence))
    if tries is None:
        pen.end_attempt(attempt_id, "lost")
        return False, {}
    node = advance.plan.nodes[base]
    recovery = settings.STROEM.recovery
    choice = node.step.on_worker_lost or node.action.on_worker_lost or recovery.on_worker_lost
    settlement = planner.settle_lost(
        worker_name,
        Tries(tries[0], tries[1], node.retry),
        had_started=had_started,
        may_repeat=choice == "retry",
        lost_retries=recovery.lost_retries,
        is_cancelling=advance.state.is_cancelling,
        chance=random.random(),
        reason=reason,
    )
    if not _write(
        advance,
        step_id,
        fence,
        step_name,
        settlement,
        Result(error=settlement.error),
        None,
        is_loss=had_started,
    ):
        return False, {}
    status = STATUS[settlement.event] if settlement.event is StepEventKind.CANCELLED else "lost"
    told = settlement.error or reason or ("Worker was lost" if is_loss else "Given back")
    pen.end_attempt(attempt_id, status, error=told)
    advance.run()
    return True, dict(advance.bells)


@retried
def time_out(
    attempt_id: int,
    job_id: UUID,
    step_id: int,
    fence: int,
    base: str,
    step_name: str,
    timeout_s: float,
) -> dict[int, int]:
    """Settle an attempt that outlived its time-out, in place of its worker. Returns what became
    ready."""
    advance = advancing(job_id, blueprints.load)
    tries = fetch_one(TRIES, (step_id, fence))
    if advance is None or tries is None:
        return {}
    error = f"Step timed out after {timeout_s:g}s (server-side enforcement)"
    outcome = StepOutcome(Verdict.TIMED_OUT, error=error)
    settlement = planner.settle(
        outcome,
        Tries(tries[0], tries[1], advance.plan.nodes[base].retry),
        is_cancelling=advance.state.is_cancelling,
        chance=random.random(),
    )
    if _write(advance, step_id, fence, step_name, settlement, Result(error=settlement.error), None):
        pen.end_attempt(attempt_id, STATUS[settlement.event], error=error)
        advance.run()
    return dict(advance.bells)
