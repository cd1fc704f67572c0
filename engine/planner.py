"""What happens next: pure decisions over a step's counters, an attempt's end and a job's counters.

A step carries the outcome of its dependencies as counters, so a decision costs the same in a job of
ten steps and of ten thousand. The same functions serve the database (`apps.jobs.flow.advance`) and
the model in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Literal

from engine.lifecycle import JobEventKind, StepEventKind
from engine.orders import StepOutcome, Verdict
from engine.retries import delay_s, most_attempts
from engine.spec.model import Retry


@dataclass(frozen=True, slots=True)
class Tally:
    """How the dependencies of a step ended, once none is open.

    `completed` counts completed ones and failed ones that tolerate their failure; `failed` counts
    the other failed and the cancelled ones.
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
    """Whether a step whose dependencies are settled may run.

    Source: spec 3.3 and 3.4. A step with `continue_on_failure` runs after anything. Another one is
    skipped behind a failed or cancelled dependency, and when every dependency was skipped; one
    completed branch is enough in a join. Torc: `all` wants every dependency completed, `done` is
    content with any end without forgiving the step's own.
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
    """What a step has behind it. `runs` counts attempts that were not lost, the present one
    included."""

    runs: int
    losses: int
    retry: Retry | None


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an ended attempt means for its step. `wait_s` is set when another run is due after that
    many seconds."""

    event: StepEventKind
    error: str = ""
    wait_s: float | None = None


def settle(outcome: StepOutcome, tries: Tries, *, is_cancelling: bool, chance: float) -> Settlement:
    """The meaning of an attempt that its worker reported. Lost ones go through `settle_lost`."""
    error = outcome.error or ""
    match outcome.verdict:
        case Verdict.SUCCEEDED:
            return Settlement(StepEventKind.SUCCEEDED)
        case Verdict.CANCELLED:
            return Settlement(StepEventKind.CANCELLED, error or "Job cancelled")
        case _ if is_cancelling:
            return Settlement(StepEventKind.CANCELLED, error)
        case _:
            return _fail_or_retry(error, tries, chance, outcome.exit_code)


def settle_lost(
    worker_name: str,
    tries: Tries,
    *,
    had_started: bool,
    may_repeat: bool,
    lost_retries: int,
    is_cancelling: bool,
    chance: float,
    reason: str = "",
) -> Settlement:
    """The meaning of an attempt whose worker went away, or saw what the step ran on go away:
    `reason` says that.

    One whose process had not started is repeated as if nothing had been. One that had started is
    repeated at most `lost_retries` times where its author allows (`on_worker_lost: retry`), without
    counting as a run; otherwise it failed, and the step's `retry` applies.
    """
    if is_cancelling:
        return Settlement(StepEventKind.CANCELLED, "Job cancelled")
    if not had_started or (may_repeat and tries.losses < lost_retries):
        return Settlement(StepEventKind.RETURNED)
    return _fail_or_retry(reason or f"Worker {worker_name} was lost", tries, chance)


def _fail_or_retry(
    error: str, tries: Tries, chance: float, exit_code: int | None = None
) -> Settlement:
    retry = tries.retry
    if retry is not None and tries.runs < most_attempts(retry, exit_code):
        return Settlement(StepEventKind.RETRIED, error, delay_s(retry, tries.runs, chance))
    return Settlement(StepEventKind.FAILED, error)


def close_loop(failed: tuple[int, ...], *, tolerates: bool, is_cancelling: bool) -> Settlement:
    """The end of a loop whose instances are all final; `failed` are the indices that failed or were
    cancelled."""
    if is_cancelling:
        return Settlement(StepEventKind.CANCELLED, "Job cancelled")
    if failed and not tolerates:
        shown = ", ".join(str(index) for index in failed[:20]) + (
            ", ..." if len(failed) > 20 else ""
        )
        return Settlement(StepEventKind.FAILED, f"for_each loop failed: instances [{shown}] failed")
    return Settlement(StepEventKind.SUCCEEDED)


def conclude(*, bad_steps: int, is_cancelling: bool) -> JobEventKind:
    """How a job ends once no step is open."""
    if is_cancelling:
        return JobEventKind.CANCELLED
    return JobEventKind.FAILED if bad_steps else JobEventKind.SUCCEEDED
