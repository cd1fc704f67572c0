"""What happens next: pure decisions based on a step's counters, an attempt's end and a job's
counters.

A step counts the outcomes of its dependencies, so a decision costs the same in jobs of ten and of
ten thousand steps. The database code (`apps.jobs.flow.advance`) and the model in the tests share
these functions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from engine.lifecycle import JobEventKind, StepEventKind
from engine.orders import StepOutcome, Verdict
from engine.retries import delay_s, most_attempts
from engine.spec.model import Retry

JOB_CANCELLED = "Job cancelled"


@dataclass(frozen=True, slots=True)
class Tally:
    """How the dependencies of a step ended, once all have.

    `completed` includes failed ones that tolerate their failure; `failed` counts the other failed
    ones and the cancelled ones.
    """

    completed: int
    failed: int
    skipped: int


class Promotion(Enum):
    RUN = auto()
    SKIP = auto()


def promote(
    tally: Tally, *, tolerates: bool, join: Literal["any", "all", "done"] = "any"
) -> Promotion:
    """Whether a step whose dependencies have ended may run.

    A step with `continue_on_failure` always runs. Any other is skipped after a failed or cancelled
    dependency, and when all dependencies were skipped; one completed branch is enough for a join.
    Torc: `all` requires every dependency to complete; `done` accepts any end, but does not tolerate
    the step's own failure.
    """
    if tolerates or join == "done":
        return Promotion.RUN
    if tally.failed or (join == "all" and tally.skipped):
        return Promotion.SKIP
    if tally.skipped and not tally.completed:
        return Promotion.SKIP
    return Promotion.RUN


@dataclass(frozen=True, slots=True)
class Tries:
    """A step's attempts so far. `runs` counts those not lost, including the current one."""

    runs: int
    losses: int
    retry: Retry | None


@dataclass(frozen=True, slots=True)
class NextMove:
    """The effect of an ended attempt on its step. `wait_s` is set when another run is due after
    that many seconds."""

    event: StepEventKind
    error: str = ""
    wait_s: float | None = None


def after_outcome(
    outcome: StepOutcome, tries: Tries, *, is_cancelling: bool, chance: float
) -> NextMove:
    """The effect of an attempt that its worker reported. For lost ones see `after_loss`."""
    error = outcome.error or ""
    match outcome.verdict:
        case Verdict.SUCCEEDED:
            return NextMove(StepEventKind.SUCCEEDED)
        case Verdict.CANCELLED:
            return NextMove(StepEventKind.CANCELLED, error or JOB_CANCELLED)
        case _ if is_cancelling:
            return NextMove(StepEventKind.CANCELLED, error)
        case _ if not outcome.may_retry:
            return NextMove(StepEventKind.FAILED, error)
        case _:
            return _fail_or_retry(error, tries, chance, outcome.exit_code)


def after_loss(
    worker_name: str,
    tries: Tries,
    *,
    had_started: bool,
    may_repeat: bool,
    lost_retries: int,
    is_cancelling: bool,
    chance: float,
    reason: str = "",
) -> NextMove:
    """The effect of an attempt whose worker, or whose container or pod, was lost; `reason` says
    which.

    If its process had not started, it is repeated as if nothing happened. Otherwise it is repeated
    at most `lost_retries` times if its author allows that (`on_worker_lost: retry`), without
    counting as a run; else it failed, and the step's `retry` applies.
    """
    if is_cancelling:
        return NextMove(StepEventKind.CANCELLED, JOB_CANCELLED)
    if not had_started or (may_repeat and tries.losses < lost_retries):
        return NextMove(StepEventKind.RETURNED)
    return _fail_or_retry(reason or f"Worker {worker_name} was lost", tries, chance)


def _fail_or_retry(
    error: str, tries: Tries, chance: float, exit_code: int | None = None
) -> NextMove:
    retry = tries.retry
    if retry is not None and tries.runs < most_attempts(retry, exit_code):
        return NextMove(StepEventKind.RETRIED, error, delay_s(retry, tries.runs, chance))
    return NextMove(StepEventKind.FAILED, error)


def close_loop(failed: tuple[int, ...], *, tolerates: bool, is_cancelling: bool) -> NextMove:
    """The end of a loop whose instances have all ended; `failed` are the indices that failed or
    were cancelled."""
    if is_cancelling:
        return NextMove(StepEventKind.CANCELLED, JOB_CANCELLED)
    if failed and not tolerates:
        shown = ", ".join(str(index) for index in failed[:20]) + (
            ", ..." if len(failed) > 20 else ""
        )
        return NextMove(StepEventKind.FAILED, f"for_each loop failed: instances [{shown}] failed")
    return NextMove(StepEventKind.SUCCEEDED)


def conclude(*, bad_steps: int, is_cancelling: bool, is_timed_out: bool = False) -> JobEventKind:
    """How a job ends once no step is open. A job that its time-out stopped has failed."""
    if is_timed_out:
        return JobEventKind.FAILED
    if is_cancelling:
        return JobEventKind.CANCELLED
    return JobEventKind.FAILED if bad_steps else JobEventKind.SUCCEEDED
