"""Two things at once: whichever comes first gives the one verdict, and the other changes
nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connections
from django.db.models import F

from apps.jobs import ledger, services
from apps.jobs.flow.restarts import restart_failed
from apps.jobs.models import Attempt, Job, Step, StepEvent
from apps.jobs.upkeep import sweeps
from apps.workspaces.models import Workspace
from engine.errors import Conflict
from engine.orders import StepOutcome, Verdict
from tests.apps.jobs.builders import DONE, Hand, failed, fresh, start, statuses, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 12

TEXT = """
actions:
  work: {type: script, script: "true"}
  timed: {type: script, script: "true", timeout: 60}
  stubborn: {type: script, script: "true", timeout: 60, retry: {max_attempts: 3, delay: 1s}}
  sub: {type: task, task: inner}
tasks:
  inner: {flow: {inside: {action: work}}}
  plain: {flow: {a: {action: timed}, b: {action: work, depends_on: [a]}}}
  stubborn: {flow: {a: {action: stubborn}, b: {action: work, depends_on: [a]}}}
  calls: {flow: {a: {action: sub, timeout: 60}, b: {action: work, depends_on: [a]}}}
  loop: {flow: {a: {action: work, for_each: [1, 2, 3, 4]}, b: {action: work, depends_on: [a]}}}
  one: {max_concurrent_jobs: 1, flow: {a: {action: work}}}
"""


@pytest.fixture(scope="module")
def home(shared_db: None, tmp_path_factory: pytest.TempPathFactory) -> Workspace:  # noqa: F811
    return workspace(tmp_path_factory.mktemp("races"), TEXT)


def together(*calls: Callable[[], object]) -> list[object]:
    """The answers of calls made at the same moment, each in a thread of its own; a Conflict is an
    answer."""
    barrier = threading.Barrier(len(calls))
    answers: list[object] = [None] * len(calls)

    def run(at: int, call: Callable[[], object]) -> None:
        barrier.wait()
        try:
            answers[at] = call()
        except Conflict as error:
            answers[at] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


def verdicts(step_id: int) -> list[str]:
    """Final events of a step, and those that end a run of it."""
    kinds = ("succeeded", "failed", "cancelled", "skipped", "retried", "returned")
    return list(
        StepEvent.objects.filter(step_id=step_id, kind__in=kinds)
        .order_by("id")
        .values_list("kind", flat=True)
    )


def time_is_up() -> None:
    """The deadline of every running attempt, and the patience after it, ended now."""
    Attempt.objects.filter(ended_at=None).update(
        deadline_at=F("claimed_at") - timedelta(seconds=sweeps.ENFORCEMENT_DELAY_S)
    )


def one_verdict(job: Job, hand: Hand) -> str:
    """How step `a` ended, after everything that can still run has run; exactly one run of it ended,
    and once."""
    step = Step.objects.get(job_id=job.id, name="a")
    assert Attempt.objects.filter(step_id=step.id, ended_at=None).count() == 0
    found = verdicts(step.id)
    assert len(found) == Attempt.objects.filter(step_id=step.id).count() == 1, found
    return found[0]


@pytest.mark.long
@pytest.mark.parametrize("task", ["plain", "stubborn"])
def test_a_step_that_ends_as_its_time_ends_has_ended_once(home: Workspace, task: str) -> None:
    seen = set()
    for number in range(ROUNDS):
        job, hand = start(home, task), Hand()
        claim = hand.take("a")
        hand.start(claim)
        time_is_up()
        pause_s = (number - ROUNDS / 2) / 1000  # from 6 ms before to 6 ms after

        def finish(
            hand: Hand = hand, claim: ledger.Claim = claim, pause_s: float = pause_s
        ) -> object:
            time.sleep(max(0.0, pause_s))
            return hand.finish(claim).accepted

        def sweep(pause_s: float = pause_s) -> object:
            time.sleep(max(0.0, -pause_s))
            return sweeps.overdue_attempts()

        accepted, _ = together(finish, sweep)
        verdict = one_verdict(job, hand)
        assert verdict == (
            "succeeded" if accepted else {"plain": "failed", "stubborn": "retried"}[task]
        )
        assert not hand.finish(claim).accepted and not hand.finish(claim, failed()).accepted
        assert one_verdict(job, hand) == verdict
        seen.add(verdict)
        hand.work()
        if fresh(job).completed_at is None:
            services.cancel_job(job.id, actor="x")
    assert seen  # both ends are legal; which one comes is the race's affair


def test_a_report_that_comes_during_back_off_after_a_time_out_is_too_late(home: Workspace) -> None:
    job, hand = start(home, "stubborn"), Hand()
    claim = hand.take("a")
    hand.start(claim)
    time_is_up()
    sweeps.overdue_attempts()
    step = Step.objects.get(job_id=job.id, name="a")
    assert step.status == "pending" and step.retry_at is not None
    assert not hand.finish(claim).accepted
    assert not hand.finish(claim, failed()).accepted
    again = Step.objects.get(job_id=job.id, name="a")
    assert (again.status, again.retry_at) == ("pending", step.retry_at)
    services.cancel_job(job.id, actor="x")
    assert fresh(job).status == "cancelled"


@pytest.mark.long
def test_cancel_during_back_off_against_the_moment_when_the_retry_is_due(home: Workspace) -> None:
    for _ in range(ROUNDS):
        job, hand = start(home, "stubborn"), Hand()
        hand.finish(hand.take("a"), failed())
        Step.objects.filter(job_id=job.id, name="a").update(retry_at=F("ready_at"))
        together(sweeps.due_steps, lambda job=job: services.cancel_job(job.id, actor="x"))
        assert statuses(job) == {"a": "cancelled", "b": "cancelled"}
        assert fresh(job).status == "cancelled" and hand.claim() is None


@pytest.mark.sample(4)
@pytest.mark.parametrize("outcome", [DONE, failed()], ids=["succeeds", "fails"])
@pytest.mark.parametrize("task", ["plain", "stubborn"])
def test_cancel_while_finishing_is_one_of_the_two(
    home: Workspace, outcome: StepOutcome, task: str
) -> None:
    for _ in range(ROUNDS):
        job, hand = start(home, task), Hand()
        claim = hand.take("a")
        hand.start(claim)
        together(
            lambda hand=hand, claim=claim: hand.finish(claim, outcome),
            lambda job=job: services.cancel_job(job.id, actor="x"),
        )
        found = statuses(job)
        if outcome is DONE:
            assert found["a"] == "completed" and found["b"] == "cancelled"
            assert fresh(job).status == "cancelled"
        elif (
            found["a"] == "failed"
        ):  # the failure was first: a cancelled job would have nothing to cancel
            assert found["b"] == "skipped" and fresh(job).status == "failed"
        else:
            assert (
                found == {"a": "cancelled", "b": "cancelled"} and fresh(job).status == "cancelled"
            )
        assert len(verdicts(Step.objects.get(job_id=job.id, name="b").id)) == 1
        assert hand.claim() is None


def test_cancel_against_a_claim_leaves_a_step_either_cancelled_or_told_to_stop(
    home: Workspace,
) -> None:
    for _ in range(ROUNDS):
        job, hand = start(home, "plain"), Hand()
        claim, _ = together(hand.claim, lambda job=job: services.cancel_job(job.id, actor="x"))
        if claim is None:
            assert statuses(job)["a"] == "cancelled" and fresh(job).status == "cancelled"
            continue
        assert isinstance(claim, ledger.Claim)
        assert ledger.renew(hand.id, {claim.attempt_id: claim.fence}, 1).cancelled == {
            claim.attempt_id
        }
        hand.finish(claim, StepOutcome(Verdict.CANCELLED, error="Job cancelled"))
        assert (
            statuses(job) == {"a": "cancelled", "b": "cancelled"}
            and fresh(job).status == "cancelled"
        )


def test_a_lost_worker_that_reports_after_all_and_the_sweep_agree_on_one_end(
    home: Workspace,
) -> None:
    for _ in range(ROUNDS):
        job, hand = start(home, "plain"), Hand()
        claim = hand.take("a")
        hand.start(claim)
        Attempt.objects.filter(id=claim.attempt_id).update(lease_until=F("claimed_at"))
        together(lambda hand=hand, claim=claim: hand.finish(claim), sweeps.lost_attempts)
        assert one_verdict(job, hand) in ("succeeded", "failed")
        hand.work()
        assert fresh(job).open_steps == 0


@pytest.mark.long
def test_the_end_of_a_child_against_the_time_out_of_its_parent_s_step(home: Workspace) -> None:
    for _ in range(ROUNDS):
        job, hand = start(home, "calls"), Hand()
        claim = hand.take("inside")
        Step.objects.filter(job_id=job.id, name="a").update(deadline_at=F("started_at"))
        together(lambda hand=hand, claim=claim: hand.finish(claim), sweeps.overdue_children)
        found = verdicts(Step.objects.get(job_id=job.id, name="a").id)
        assert found in (["succeeded"], ["failed"])
        hand.work()
        sweeps.untold_parents()
        hand.work()
        assert fresh(job).open_steps == 0
        child = Job.objects.get(parent_job_id=job.id)
        assert child.status in ("completed", "cancelled") and child.parent_told


def test_many_who_cancel_at_once_cancel_once(home: Workspace) -> None:
    for _ in range(ROUNDS):
        job = start(home, "calls")
        answers = together(*[lambda job=job: services.cancel_job(job.id, actor="x")] * 4)
        assert all(answer is None or isinstance(answer, Conflict) for answer in answers)
        assert fresh(job).status == "cancelled"
        assert StepEvent.objects.filter(job_id=job.id, kind="job_cancelled").count() == 1
        assert Job.objects.get(parent_job_id=job.id).status == "cancelled"


@pytest.mark.long
def test_two_who_restart_at_once_open_one_generation(home: Workspace) -> None:
    for _ in range(ROUNDS):
        job, hand = start(home, "plain"), Hand()
        hand.work({"a": failed()})
        answers = together(*[lambda job=job: restart_failed(job.id)] * 2)
        assert sum(isinstance(answer, Conflict) for answer in answers) == 1
        assert fresh(job).generation == 2
        assert hand.work() == 2 and fresh(job).status == "completed"


def test_instances_of_a_loop_that_end_at_once_close_it_once(home: Workspace) -> None:
    for number in range(ROUNDS):
        job, hands = start(home, "loop"), [Hand() for _ in range(4)]
        claims = [hand.claim() for hand in hands]
        outcomes = [failed() if number % 2 and at == 2 else DONE for at in range(4)]
        together(
            *[
                lambda hand=hand, claim=claim, outcome=outcome: hand.finish(claim, outcome)
                for hand, claim, outcome in zip(hands, claims, outcomes, strict=True)
            ]
        )
        loop = Step.objects.get(job_id=job.id, name="a")
        assert (
            loop.status == ("failed" if number % 2 else "completed") and len(verdicts(loop.id)) == 1
        )
        assert Hand().work() == (0 if number % 2 else 1)
        assert fresh(job).open_steps == 0


def test_of_many_jobs_started_at_once_no_more_run_than_the_task_allows(home: Workspace) -> None:
    jobs = together(*[lambda: start(home, "one")] * 6)
    running = [job for job in jobs if not fresh(job).is_held]  # type: ignore[arg-type]
    assert len(running) == 1
    for _ in range(6):
        assert Job.objects.filter(task_name="one", status="running").count() <= 1
        Hand().work()
        together(sweeps.due_jobs, sweeps.due_jobs, sweeps.due_jobs)
    assert {fresh(job).status for job in jobs} == {"completed"}  # type: ignore[arg-type]


@pytest.mark.long
def test_a_retry_that_is_due_on_two_hosts_makes_the_step_ready_once(home: Workspace) -> None:
    job, hand = start(home, "stubborn"), Hand()
    hand.finish(hand.take("a"), failed())
    Step.objects.filter(job_id=job.id, name="a").update(retry_at=F("ready_at"))
    together(*[sweeps.due_steps] * 4)
    step = Step.objects.get(job_id=job.id, name="a")
    assert step.status == "ready"
    # the first run, and this one
    assert StepEvent.objects.filter(step_id=step.id, kind="unblocked").count() == 2
    assert hand.work() == 2
