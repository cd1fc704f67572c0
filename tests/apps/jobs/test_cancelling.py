"""Cancel in every state of a step, restarts from there, time-outs of children, and who is served
first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.db.models import F

from apps.conductor import partitions
from apps.hooks.models import HookRun
from apps.jobs import ledger, services
from apps.jobs.flow.restarts import restart_failed
from apps.jobs.models import Attempt, Job, LogChunk, Step, StepEvent
from apps.jobs.upkeep import sweeps
from engine.errors import Conflict
from engine.orders import Line, StepOutcome, Verdict
from tests.apps.jobs.builders import Hand, failed, fresh, output, start, statuses, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
STOPPED = StepOutcome(Verdict.CANCELLED, exit_code=-15, error="Job cancelled")

TEXT = """
actions:
  work: {type: script, script: "true"}
  again: {type: script, script: "true", retry: {max_attempts: 3, delay: 1h}}
  ask: {type: approval, message: "Go on?"}
  call: {type: task, task: inner}
  note: {type: script, script: "true"}
tasks:
  inner: {flow: {inside: {action: work}}}
  chain: {flow: {a: {action: work}, b: {action: work, depends_on: [a]}}, on_cancel: [{action: note}]}
  tries: {flow: {a: {action: again}}}
  asks: {flow: {a: {action: ask}, b: {action: work, depends_on: [a]}}}
  calls: {flow: {a: {action: call}, b: {action: work, depends_on: [a]}}, on_error: [{action: note}]}
  timed: {flow: {a: {action: call, timeout: 60}, b: {action: work, depends_on: [a]}}}
  loop: {flow: {a: {action: work, for_each: [1, 2, 3], max_parallel: 1}, b: {action: work, depends_on: [a]}}}
  loop-of-calls: {flow: {a: {action: call, for_each: [1, 2, 3]}, b: {action: work, depends_on: [a]}}}
  one: {max_concurrent_jobs: 1, flow: {a: {action: work}}}
  late: {retry: {max_attempts: 2, delay: 1h}, flow: {a: {action: work}}}
"""


@pytest.fixture(scope="module")
def home(shared_db: None, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: F811
    return workspace(tmp_path_factory.mktemp("cancel"), TEXT)


def cancel(job: Job) -> None:
    services.cancel_job(job.id, actor="me@example.org")


def is_cancelled(job: Job, *names: str) -> bool:
    found = statuses(job)
    return fresh(job).status == "cancelled" and all(found[name] == "cancelled" for name in names)


# Table: every state in which a step can be when somebody cancels its job.


def test_a_ready_step_is_cancelled_at_once_and_never_claimed(home: Any) -> None:
    job = start(home, "chain")
    cancel(job)
    assert is_cancelled(job, "a", "b")
    hand = Hand()
    hand.work()
    assert hand.seen == ["hook"]


def test_a_step_in_back_off_is_cancelled_at_once(home: Any) -> None:
    job, hand = start(home, "tries"), Hand()
    hand.finish(hand.take("a"), failed())
    cancel(job)
    assert is_cancelled(job, "a") and hand.claim() is None


def test_a_step_that_waits_for_a_decision_is_cancelled_at_once(home: Any) -> None:
    job = start(home, "asks")
    assert statuses(job)["a"] == "suspended"
    cancel(job)
    assert is_cancelled(job, "a", "b")


def test_a_claimed_step_is_cancelled_by_its_worker_s_first_renewal(home: Any) -> None:
    job, hand = start(home, "chain"), Hand()
    claim = hand.take("a")
    cancel(job)
    assert ledger.renew(hand.id, {claim.attempt_id: claim.fence}, 1).cancelled == {claim.attempt_id}
    hand.finish(claim, STOPPED)
    assert is_cancelled(job, "a", "b")


def test_a_running_step_keeps_its_exit_code_and_lines(home: Any) -> None:
    partitions.prepare()
    job, hand = start(home, "chain"), Hand()
    claim = hand.take("a")
    hand.start(claim)
    ledger.append(claim, 1, [Line(1.0, "stdout", "so far")])
    cancel(job)
    hand.finish(claim, STOPPED)
    assert is_cancelled(job, "a", "b")
    assert Attempt.objects.get(job_id=job.id).exit_code == -15
    assert "so far" in LogChunk.objects.get(job_id=job.id).lines


def test_of_a_waiting_parent_the_child_is_cancelled_first(home: Any) -> None:
    job, hand = start(home, "calls"), Hand()
    claim = hand.take("inside")
    cancel(job)
    child = Job.objects.get(parent_job_id=job.id)
    assert (child.status, fresh(job).status) == ("running", "running")
    hand.finish(claim, STOPPED)
    child.refresh_from_db()
    assert is_cancelled(job, "a", "b") and child.status == "cancelled"
    assert child.completed_at <= fresh(job).completed_at


def test_a_cancelled_loop_keeps_what_was_done(home: Any) -> None:
    job, hand = start(home, "loop"), Hand()
    hand.finish(hand.take("a[0]"))
    claim = hand.take("a[1]")
    cancel(job)
    hand.finish(claim, STOPPED)
    found = statuses(job)
    assert (found["a[0]"], found["a[1]"], found["a[2]"]) == ("completed", "cancelled", "cancelled")
    assert is_cancelled(job, "a", "b")


def test_a_held_and_a_delayed_job_are_cancelled_at_once(home: Any) -> None:
    start(home, "one")
    held, hand = start(home, "one"), Hand()
    cancel(held)
    assert is_cancelled(held, "a")
    first = start(home, "late")
    hand.work({"a": failed()})
    delayed = Job.objects.get(retry_of_id=first.id)
    cancel(delayed)
    assert is_cancelled(delayed, "a") and sweeps.due_jobs() == 0


def test_a_step_whose_worker_is_lost_during_cancel_is_cancelled_and_not_tried_again(
    home: Any,
) -> None:
    job, hand = start(home, "tries"), Hand()
    hand.start(hand.take("a"))
    cancel(job)
    Attempt.objects.filter(job_id=job.id).update(lease_until=F("claimed_at"))
    sweeps.lost_attempts()
    assert is_cancelled(job, "a") and Step.objects.get(job_id=job.id).losses == 0


def test_a_job_that_has_ended_cannot_be_cancelled_and_stays_as_it_is(home: Any) -> None:
    job = start(home, "chain")
    Hand().work()
    before = fresh(job).completed_at
    with pytest.raises(Conflict, match="already in a terminal state"):
        cancel(job)
    assert (fresh(job).status, fresh(job).completed_at) == ("completed", before)


def test_on_cancel_fires_once_also_when_the_worker_was_lost(home: Any) -> None:
    job, hand = start(home, "chain"), Hand()
    hand.start(hand.take("a"))
    cancel(job)
    Attempt.objects.filter(job_id=job.id).update(lease_until=F("claimed_at"))
    for _ in range(3):
        sweeps.lost_attempts()
    assert list(HookRun.objects.filter(job_id=job.id).values_list("event", flat=True)) == [
        "on_cancel"
    ]


def test_who_cancelled_is_written_down(home: Any) -> None:
    job = start(home, "chain")
    cancel(job)
    assert StepEvent.objects.get(job_id=job.id, kind="job_cancelled").actor == "me@example.org"


# Children that nobody waits for


def test_a_step_whose_time_is_up_cancels_its_child_and_the_parent_goes_on(home: Any) -> None:
    job, hand = start(home, "timed"), Hand()
    claim = hand.take("inside")
    assert sweeps.overdue_children() == 0
    Step.objects.filter(job_id=job.id, name="a").update(deadline_at=F("started_at"))
    sweeps.overdue_children()
    assert statuses(job) == {"a": "failed", "b": "skipped"} and fresh(job).status == "failed"
    assert Step.objects.get(job_id=job.id, name="a").error == "Step timed out"
    assert ledger.renew(hand.id, {claim.attempt_id: claim.fence}, 1).cancelled == {claim.attempt_id}
    hand.finish(claim, STOPPED)
    assert Job.objects.get(parent_job_id=job.id).status == "cancelled"


def test_a_child_whose_parent_died_before_it_could_tell_it_is_cancelled_by_the_sweep(
    home: Any,
) -> None:
    job, hand = start(home, "calls"), Hand()
    child = Job.objects.get(parent_job_id=job.id)
    assert sweeps.forsaken_children() == 0
    from apps.jobs.flow import cancellation

    cancellation._cancel_one(job.id, "me", "Job cancelled")  # and here the process dies
    assert fresh(child).status == "running"
    assert sweeps.forsaken_children() == 1
    assert (
        fresh(child).status == "cancelled"
        and fresh(job).status == "cancelled"
        and hand.claim() is None
    )


# Restarts


def test_a_restart_runs_a_failed_child_anew_and_tells_nobody_twice(home: Any) -> None:
    job, hand = start(home, "calls"), Hand()
    hand.work({"inside": failed("first")})
    first = Job.objects.get(parent_job_id=job.id)
    restart_failed(job.id, actor="me")
    hand.work({"inside": output("second")})
    assert fresh(job).status == "completed" and fresh(job).generation == 2
    second = Job.objects.get(id=Step.objects.get(job_id=job.id, name="a").child_job_id)
    assert (fresh(first).status, second.status) == ("failed", "completed") and first.id != second.id
    assert Step.objects.get(job_id=job.id, name="a").output == {"inside": "second"}
    hooks = HookRun.objects.filter(job_id=job.id).values_list("generation", "event")
    assert list(hooks) == [(1, "on_error")]


def test_a_restart_of_a_loop_of_children_runs_only_those_that_failed(home: Any) -> None:
    job, hand = start(home, "loop-of-calls"), Hand()
    claims = [hand.take("inside") for _ in range(3)]
    hand.finish(claims[0])
    hand.finish(claims[1], failed())
    hand.finish(claims[2])
    restart_failed(job.id)
    assert Job.objects.filter(parent_job_id=job.id).count() == 4
    hand.work()
    assert fresh(job).status == "completed"


def test_a_restart_of_a_cancelled_loop_whose_items_were_all_done_closes_it(home: Any) -> None:
    job, hand = start(home, "loop"), Hand()
    for index in range(2):
        hand.finish(hand.take(f"a[{index}]"), output(index))
    claim = hand.take("a[2]")
    cancel(job)
    hand.finish(claim, output(2))  # it was quicker than the request
    assert is_cancelled(job, "a", "b") and statuses(job)["a[2]"] == "completed"
    restart_failed(job.id)
    assert Step.objects.get(job_id=job.id, name="a").output == [0, 1, 2]
    assert hand.work() == 1 and fresh(job).status == "completed"


def test_within_a_generation_an_end_is_an_end(home: Any) -> None:
    job, hand = start(home, "chain"), Hand()
    claim = hand.take("a")
    hand.finish(claim, failed("first"))
    restart_failed(job.id)
    assert not hand.finish(claim).accepted and not hand.start(claim)  # of the generation before
    assert statuses(job) == {"a": "ready", "b": "pending"}
    assert hand.work() == 2 and fresh(job).status == "completed"
    with pytest.raises(Conflict):
        restart_failed(job.id)


def test_a_job_that_is_tried_again_by_itself_is_not_restarted_beside_that(home: Any) -> None:
    job, hand = start(home, "late"), Hand()
    hand.work({"a": failed()})
    following = Job.objects.get(retry_of_id=job.id)
    with pytest.raises(Conflict, match="is already being retried as job"):
        restart_failed(job.id)
    cancel(following)
    restart_failed(job.id)
    assert hand.work() == 1 and fresh(job).status == "completed"


def test_a_plain_restart_is_a_new_job_of_the_current_revision_linked_to_the_old(home: Any) -> None:
    job = start(home, "chain")
    Hand().work({"a": failed()})
    again = services.rerun_job(job.id, actor=None)
    assert (again.rerun_of_id, again.source_type, fresh(again).status) == (
        job.id,
        "rerun",
        "running",
    )
    assert fresh(job).status == "failed"


# Order


def test_the_job_of_higher_priority_is_served_first_and_among_equals_the_older(home: Any) -> None:
    low = [services.start_job(home.name, "inner", {}, priority=0) for _ in range(2)]
    high = services.start_job(home.name, "inner", {}, priority=5)
    hand = Hand()
    claims = [hand.claim() for _ in range(3)]
    assert [claim.job_id for claim in claims if claim] == [high.id, low[0].id, low[1].id]


def test_a_wide_job_does_not_keep_a_narrow_one_waiting_for_all_of_it(
    home: Any, tmp_path: Path
) -> None:
    text = TEXT.replace("for_each: [1, 2, 3], max_parallel: 1", "for_each: [1, 2, 3, 4, 5, 6]")
    wide = start(workspace(tmp_path, text), "loop")
    narrow = start(home, "inner")
    hand = Hand()
    order = [claim.job_id for claim in (hand.claim() for _ in range(7)) if claim]
    assert len(order) == 7 and order.index(narrow.id) <= 1 and order.count(wide.id) == 6


def test_held_jobs_begin_by_priority_and_then_by_age(home: Any) -> None:
    start(home, "one")
    first, second = start(home, "one"), start(home, "one")
    urgent = services.start_job(home.name, "one", {}, priority=9)
    hand, order = Hand(), []
    for _ in range(4):
        claim = hand.claim()
        assert claim is not None and hand.claim() is None
        order.append(claim.job_id)
        hand.finish(claim)
        sweeps.due_jobs()
    assert order[1:] == [urgent.id, first.id, second.id]
