"""What happens next, as pure decisions: promotion, the end of attempts, loops and jobs."""

from __future__ import annotations

from itertools import product

import pytest

from engine.lifecycle import JobEventKind, StepEventKind
from engine.orders import StepOutcome, Verdict
from engine.planner import (
    Promotion,
    Tally,
    Tries,
    after_loss,
    after_outcome,
    close_loop,
    conclude,
    promote,
)
from engine.retries import delay_s
from engine.spec.model import Retry

OUTCOMES = ("completed", "failed", "tolerated", "skipped", "cancelled")
RETRY = Retry(max_attempts=3, delay_s=10)


def tally(*outcomes: str) -> Tally:
    return Tally(
        completed=sum(outcome in ("completed", "tolerated") for outcome in outcomes),
        failed=sum(outcome in ("failed", "cancelled") for outcome in outcomes),
        skipped=sum(outcome == "skipped" for outcome in outcomes),
    )


def runs_by_the_book(outcomes: tuple[str, ...], tolerates: bool) -> bool:
    """The rule in the words of the specification, written down a second time."""
    if tolerates or not outcomes:
        return True
    if any(outcome in ("failed", "cancelled") for outcome in outcomes):
        return False
    return any(outcome != "skipped" for outcome in outcomes)


@pytest.mark.parametrize("tolerates", [False, True], ids=["strict", "tolerant"])
@pytest.mark.parametrize(
    "outcomes",
    [found for size in range(4) for found in product(OUTCOMES, repeat=size)],
    ids=lambda found: "+".join(found),
)
def test_a_step_runs_exactly_where_its_dependencies_allow_it(
    outcomes: tuple[str, ...], tolerates: bool
) -> None:
    expected = Promotion.RUN if runs_by_the_book(outcomes, tolerates) else Promotion.SKIP
    assert promote(tally(*outcomes), tolerates=tolerates) is expected


@pytest.mark.parametrize(
    ("verdict", "runs", "is_cancelling", "event"),
    [
        (Verdict.SUCCEEDED, 1, False, StepEventKind.SUCCEEDED),
        # it was done before anybody could stop it
        (Verdict.SUCCEEDED, 3, True, StepEventKind.SUCCEEDED),
        (Verdict.FAILED, 1, False, StepEventKind.RETRIED),
        (Verdict.FAILED, 2, False, StepEventKind.RETRIED),
        (Verdict.FAILED, 3, False, StepEventKind.FAILED),
        (Verdict.FAILED, 1, True, StepEventKind.CANCELLED),
        (Verdict.TIMED_OUT, 1, False, StepEventKind.RETRIED),
        (Verdict.TIMED_OUT, 3, False, StepEventKind.FAILED),
        (Verdict.TIMED_OUT, 1, True, StepEventKind.CANCELLED),
        (Verdict.CANCELLED, 1, False, StepEventKind.CANCELLED),
        (Verdict.CANCELLED, 1, True, StepEventKind.CANCELLED),
    ],
)
def test_the_end_of_an_attempt_means_one_thing(
    verdict: Verdict, runs: int, is_cancelling: bool, event: StepEventKind
) -> None:
    found = after_outcome(
        StepOutcome(verdict, error="x"),
        Tries(runs, 0, RETRY),
        is_cancelling=is_cancelling,
        chance=0.5,
    )
    assert found.event is event
    assert (found.wait_s is not None) == (event is StepEventKind.RETRIED)


def test_without_retry_a_failure_is_final() -> None:
    found = after_outcome(
        StepOutcome(Verdict.FAILED, error="boom"), Tries(1, 0, None), is_cancelling=False, chance=0
    )
    assert (found.event, found.error) == (StepEventKind.FAILED, "boom")


@pytest.mark.parametrize("is_cancelling", [False, True])
@pytest.mark.parametrize("had_started", [False, True])
@pytest.mark.parametrize("may_repeat", [False, True])
@pytest.mark.parametrize("losses", [0, 1, 2, 3])
@pytest.mark.parametrize("retry", [None, RETRY], ids=["once", "retry"])
def test_a_lost_attempt_is_repeated_only_where_nothing_ran_or_its_author_allows_it(
    is_cancelling: bool, had_started: bool, may_repeat: bool, losses: int, retry: Retry | None
) -> None:
    found = after_loss(
        "node-7",
        Tries(1, losses, retry),
        had_started=had_started,
        may_repeat=may_repeat,
        lost_retries=2,
        is_cancelling=is_cancelling,
        chance=0,
    )
    if is_cancelling:
        assert found.event is StepEventKind.CANCELLED
    elif not had_started or (may_repeat and losses < 2):
        assert found.event is StepEventKind.RETURNED
    else:
        assert found.event is (StepEventKind.RETRIED if retry else StepEventKind.FAILED)
        assert found.error == "Worker node-7 was lost"


def test_a_loss_that_the_worker_itself_reports_is_told_in_its_words() -> None:
    found = after_loss(
        "node-7",
        Tries(1, 0, None),
        had_started=True,
        may_repeat=False,
        lost_retries=2,
        is_cancelling=False,
        chance=0,
        reason="The pod was evicted",
    )
    assert (found.event, found.error) == (StepEventKind.FAILED, "The pod was evicted")


@pytest.mark.parametrize(
    ("failed", "tolerates", "is_cancelling", "event"),
    [
        ((), False, False, StepEventKind.SUCCEEDED),
        ((), True, False, StepEventKind.SUCCEEDED),
        ((0,), False, False, StepEventKind.FAILED),
        ((0,), True, False, StepEventKind.SUCCEEDED),
        ((), False, True, StepEventKind.CANCELLED),
        ((0,), True, True, StepEventKind.CANCELLED),
    ],
)
def test_a_loop_ends_as_its_instances_did(
    failed: tuple[int, ...], tolerates: bool, is_cancelling: bool, event: StepEventKind
) -> None:
    assert close_loop(failed, tolerates=tolerates, is_cancelling=is_cancelling).event is event


def test_a_loop_names_the_instances_that_failed_and_not_ten_thousand_of_them() -> None:
    assert (
        close_loop((0, 2), tolerates=False, is_cancelling=False).error
        == "for_each loop failed: instances [0, 2] failed"
    )
    many = close_loop(tuple(range(10_000)), tolerates=False, is_cancelling=False).error
    assert len(many) < 200 and many.endswith(", ...] failed")


@pytest.mark.parametrize(
    ("bad_steps", "is_cancelling", "event"),
    [
        (0, False, JobEventKind.SUCCEEDED),
        (1, False, JobEventKind.FAILED),
        (0, True, JobEventKind.CANCELLED),
        (9, True, JobEventKind.CANCELLED),
    ],
)
def test_a_job_ends_as_its_steps_did(
    bad_steps: int, is_cancelling: bool, event: JobEventKind
) -> None:
    assert conclude(bad_steps=bad_steps, is_cancelling=is_cancelling) is event
    late = conclude(bad_steps=bad_steps, is_cancelling=is_cancelling, is_timed_out=True)
    assert late is JobEventKind.FAILED


def test_back_off_doubles_from_the_first_wait_and_stops_after_six_doublings() -> None:
    retry = Retry(delay_s=1, backoff="exponential")
    assert [delay_s(retry, run, 0.5) for run in range(1, 10)] == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert [delay_s(Retry(delay_s=7), run, 0.5) for run in (1, 5)] == [7, 7]


@pytest.mark.parametrize(("chance", "factor"), [(0.0, 0.75), (0.5, 1.0), (0.999_999, 1.25)])
def test_jitter_spreads_a_wait_by_a_quarter_both_ways(chance: float, factor: float) -> None:
    assert delay_s(Retry(delay_s=100, jitter=True), 1, chance) == pytest.approx(
        100 * factor, rel=1e-4
    )
