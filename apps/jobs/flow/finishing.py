"""The end of an attempt: guarded by its fence, counted and advanced in one transaction, without a
server hop.

Steps and units end the same way; they differ in what the end sets off.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.conf import settings

from apps.jobs import ports
from apps.jobs.database.sql import fetch_named, fetch_one, retried
from apps.jobs.flow import blueprints
from apps.jobs.flow.advance import Advance, advancing
from apps.jobs.flow.contexts import Told, redact
from apps.jobs.ports import Leaving, Rules, UnitRef
from apps.jobs.transitions import moves as pen
from apps.jobs.transitions.claims import Completion
from apps.jobs.transitions.moves import Ended, Result
from engine import planner
from engine.errors import StaleMove
from engine.lifecycle import AttemptEventKind, OwnerKind, StepEventKind, StepStatus
from engine.orders import StepOutcome, Verdict
from engine.planner import NextMove, Tries
from engine.spec.model import StateRule

TOLD = {
    StepEventKind.SUCCEEDED: AttemptEventKind.SUCCEEDED,
    StepEventKind.FAILED: AttemptEventKind.FAILED,
    StepEventKind.RETRIED: AttemptEventKind.FAILED,
    StepEventKind.CANCELLED: AttemptEventKind.CANCELLED,
    StepEventKind.RETURNED: AttemptEventKind.LOST,
}
# A step waiting for a retry keeps its last fence: a report of that attempt comes too late.
RUNNING = (StepStatus.RUNNING,)
JOB = "SELECT job_id FROM jobs_attempt WHERE id = %s AND ended_at IS NULL"
HELD = """
SELECT a.started_at IS NOT NULL AS had_started, s.id, s.base, s.name, s.timeout_s, s.attempts,
    s.losses, s.lasts, s.owner_kind, s.owner_id, a.fence,
    s.status = 'running' AND s.fence = a.fence AS is_current,
    coalesce(w.name, a.worker_id::text) AS worker
FROM jobs_attempt a JOIN jobs_step s ON s.id = a.step_id
LEFT JOIN fleet_worker w ON w.id = a.worker_id
WHERE a.id = %s AND a.ended_at IS NULL
"""
Conclusion = tuple[bool, dict[int, int]]  # accepted; newly ready, by tag set id
REFUSED: Conclusion = (False, {})


@dataclass(frozen=True, slots=True)
class _Held:
    """An attempt that is about to end, its job locked. `row` is a row of HELD."""

    attempt_id: int
    advance: Advance
    row: Any

    @property
    def unit(self) -> UnitRef | None:
        """None for a step of the flow."""
        row = self.row
        if row.owner_kind == OwnerKind.STEP:
            return None
        return UnitRef(row.id, self.advance.state.id, row.owner_id, row.attempts)

    @property
    def _shares_places(self) -> bool:
        row = self.row
        is_instance = self.unit is None and row.name != row.base
        return is_instance and self.advance.plan.nodes[row.base].shares_places

    @property
    def is_cancelling(self) -> bool:
        return self.advance.state.is_cancelling and not self.row.lasts

    def rules(self) -> Rules:
        if self.unit is not None:
            return ports.owner_of(OwnerKind(self.row.owner_kind)).rules(self.unit)
        node = self.advance.plan.nodes[self.row.base]
        choice = node.step.on_worker_lost or node.action.on_worker_lost
        return Rules(node.retry, (choice or settings.STROEM.recovery.on_worker_lost) == "retry")

    def conclude(
        self,
        move: NextMove,
        told: AttemptEventKind,
        error: str,
        *,
        outcome: StepOutcome | None = None,
        seen: Any = None,
        progress: int | None = None,
        is_loss: bool = False,
    ) -> Conclusion:
        """Move the step, end the attempt and advance the job; refused if the fence is stale."""
        if not self._write(move, seen, is_loss=is_loss):
            return REFUSED
        pen.end_attempt(
            self.attempt_id,
            told,
            exit_code=outcome.exit_code if outcome else None,
            error=error,
            progress=progress,
        )
        self.advance.run()
        if self.unit is not None:
            owner = ports.owner_of(OwnerKind(self.row.owner_kind))
            owner.ended(self.unit, move.event, told, error)
        return True, dict(self.advance.bells)

    def _write(self, move: NextMove, seen: Any, *, is_loss: bool) -> bool:
        row, event = self.row, move.event
        if event in pen.FINAL_EVENTS:
            base = row.name if self.unit is None else ""
            result = Result(error=move.error)
            return bool(
                self.advance.settle([row.id], event, result, fence=row.fence, base=base, input=seen)
            )
        try:
            _, tag_set_id = pen.move(
                row.id,
                event,
                fence=row.fence,
                wait_s=move.wait_s,
                detail=move.error,
                is_loss=is_loss,
                input=seen or None,
            )
        except StaleMove:
            return False
        if event is StepEventKind.RETRIED and self._shares_places:
            self.advance.set_aside(row.id)
        if event is StepEventKind.RETURNED and tag_set_id is not None:
            self.advance.bells[tag_set_id] += 1
        return True


def _hold(attempt_id: int, job_id: UUID) -> _Held | None:
    """Lock the attempt's job, then read the attempt; None if it has ended."""
    advance = advancing(job_id, blueprints.load)
    rows = fetch_named(HELD, (attempt_id,))
    return _Held(attempt_id, advance, rows[0]) if advance is not None and rows else None


def finish(report: Told) -> Conclusion:
    """End a reported attempt."""
    verdict = report.outcome.verdict
    if verdict is Verdict.LOST:
        return lose(
            report.claim.attempt_id,
            is_stop=report.outcome.is_handed_back,
            reason=report.result.error,
        )
    if verdict is not Verdict.SUCCEEDED:
        return _fail(report)
    return _succeed(report) if report.left is None else _leave(report)


def compiled(report: Told) -> Completion | None:
    """Parameters for the compiled statement, or None if it cannot take this report."""
    claim, outcome = report.claim, report.outcome
    if outcome.verdict is not Verdict.SUCCEEDED or claim.step_name != claim.base:
        return None
    if report.left is not None:
        return None
    node = blueprints.load(claim.blueprint_id).nodes.get(claim.base)  # None for a unit
    if node is None or not node.leads_to_plain:
        return None
    return Completion(
        claim.job_id,
        claim.step_id,
        claim.fence,
        claim.attempt_id,
        outcome.exit_code,
        report.result,
        report.input,
        has_one_dependent=len(node.dependents) == 1,
    )


@retried
def _succeed(report: Told) -> Conclusion:
    """The common end: no decision is needed, so the statement that ends the step also takes the
    lock."""
    claim = report.claim
    settled = pen.settle(
        claim.job_id,
        [claim.step_id],
        StepEventKind.SUCCEEDED,
        report.result,
        fence=claim.fence,
        sources=RUNNING,
        input=report.input,
        ended=Ended(claim.attempt_id, report.outcome.exit_code, report.progress),
    )
    if not settled.moved or settled.state is None:
        return REFUSED
    advance = Advance(settled.state, blueprints.load(settled.state.blueprint_id))
    advance.absorb(settled)
    if claim.owner_id is None:
        advance.note(claim.step_name, StepEventKind.SUCCEEDED)
    advance.run()
    if claim.owner_id is not None:
        unit = UnitRef(claim.step_id, claim.job_id, claim.owner_id, claim.number)
        ports.owner_of(claim.owner_kind).ended(
            unit, StepEventKind.SUCCEEDED, AttemptEventKind.SUCCEEDED, ""
        )
    return True, dict(advance.bells)


@retried
def _leave(report: Told) -> Conclusion:
    """The same for a step that leaves something for later ones: both or neither. What cannot be
    kept lets the step fail."""
    held = _hold(report.claim.attempt_id, report.claim.job_id)
    if held is None or not held.row.is_current or report.left is None:
        return REFUSED
    rule = held.advance.plan.task.state or StateRule()
    workspace_id = held.advance.job.workspace_id
    refusal = ports.keeper().keep(
        Leaving(report.claim, workspace_id, rule, report.left, report.masks)
    )
    if refusal is None:
        return _succeed(report)
    error = redact(refusal, report.masks)
    outcome = replace(report.outcome, verdict=Verdict.FAILED, error=error, has_output=False)
    return _end_badly(held, replace(report, outcome=outcome))


@retried
def _fail(report: Told) -> Conclusion:
    held = _hold(report.claim.attempt_id, report.claim.job_id)
    if held is None or not held.row.is_current:
        return REFUSED
    return _end_badly(held, report)


def _end_badly(held: _Held, report: Told) -> Conclusion:
    move = _after_outcome(held, report.outcome)
    return held.conclude(
        move,
        TOLD[move.event],
        move.error,
        outcome=report.outcome,
        seen=report.input,
        progress=report.progress,
    )


def _after_outcome(held: _Held, outcome: StepOutcome) -> NextMove:
    return planner.after_outcome(
        outcome,
        Tries(held.row.attempts, held.row.losses, held.rules().retry),
        is_cancelling=held.is_cancelling,
        chance=random.random(),
    )


@retried
def lose(
    attempt_id: int, *, is_loss: bool = True, is_stop: bool = False, reason: str = ""
) -> Conclusion:
    """End an attempt whose worker is gone, returned it or reported it lost for `reason`. Does
    nothing if it has already ended. `is_stop`: an operator has stopped the worker, which does not
    count as a loss."""
    job = fetch_one(JOB, (attempt_id,))
    held = _hold(attempt_id, job[0]) if job else None
    if held is None:
        return REFUSED
    row = held.row
    if not row.is_current:
        pen.end_attempt(attempt_id, AttemptEventKind.LOST)
        return REFUSED
    rules = held.rules()
    had_started = row.had_started and is_loss  # a returned step never had a process
    losses = 0 if is_stop else row.losses
    move = planner.after_loss(
        row.worker,
        Tries(row.attempts, losses, rules.retry if rules.retries_losses else None),
        had_started=had_started,
        may_repeat=rules.may_repeat,
        lost_retries=settings.STROEM.recovery.lost_retries,
        is_cancelling=held.is_cancelling,
        chance=random.random(),
        reason=reason,
    )
    is_cancelled = move.event is StepEventKind.CANCELLED
    told = AttemptEventKind.CANCELLED if is_cancelled else AttemptEventKind.LOST
    error = reason or (f"Worker {row.worker} was lost" if is_loss else "Given back")
    return held.conclude(move, told, move.error or error, is_loss=had_started and not is_stop)


@retried
def time_out(attempt_id: int, job_id: UUID) -> dict[int, int]:
    """End an attempt past its time-out in place of its worker. Returns what became ready."""
    held = _hold(attempt_id, job_id)
    if held is None or not held.row.is_current:
        return {}
    what = "Step" if held.unit is None else "Action"
    error = f"{what} timed out after {held.row.timeout_s:g}s (server-side enforcement)"
    move = _after_outcome(held, StepOutcome(Verdict.TIMED_OUT, error=error))
    _, ready = held.conclude(move, TOLD[move.event], error)
    return ready
