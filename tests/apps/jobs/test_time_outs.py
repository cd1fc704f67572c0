"""The time-out of a job is a failure: with its reason, its hooks and its retry, whatever the job was
waiting for."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import F, Q
from django.utils import timezone

from apps.conductor import services as conductor
from apps.hooks.models import HookRun
from apps.jobs import services
from apps.jobs.flow import admission
from apps.jobs.flow.restarts import restart_failed
from apps.jobs.models import Job, Step
from apps.jobs.pages import hub
from apps.jobs.upkeep import sweeps
from engine.orders import StepOutcome, Verdict
from tests.apps.jobs.builders import DONE, Hand, failed, fresh, start, statuses, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
STOPPED = StepOutcome(Verdict.CANCELLED, exit_code=-15, error="Job cancelled")
LATE = "Job timed out after 5m"
TEXT = """
actions:
  work: {type: script, script: "true"}
  again: {type: script, script: "true", retry: {max_attempts: 3, delay: 1h}}
  ask: {type: approval, message: "Go on?"}
  call: {type: task, task: inner}
  call-timed: {type: task, task: timed}
  note: {type: script, script: "true"}
tasks:
  inner: {flow: {inside: {action: work}}}
  timed: {timeout: 5m, flow: {inside: {action: work}}}
  works: &late
    timeout: 5m
    on_error: [{action: note}]
    on_cancel: [{action: note}]
    on_success: [{action: note}]
    flow: {a: {action: work}, b: {action: work, depends_on: [a]}}
  asks: {<<: *late, flow: {a: {action: ask}}}
  tries: {<<: *late, flow: {a: {action: again}}}
  calls: {<<: *late, flow: {a: {action: call}}}
  loops: {<<: *late, flow: {a: {action: work, for_each: [1, 2, 3], max_parallel: 1}}}
  unmatched: {<<: *late, flow: {a: {action: work, tags: [nowhere]}}}
  retried: {timeout: 5m, retry: {max_attempts: 2, delay: 1s}, on_error: [{action: note}], flow: {a: {action: work}}}
  outer: {on_error: [{action: note}], flow: {a: {action: call-timed}, b: {action: work, depends_on: [a]}}}
  one: {timeout: 5m, max_concurrent_jobs: 1, flow: {a: {action: work}}}
"""


@pytest.fixture(scope="module")
def home(shared_db: None, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: F811
    return workspace(tmp_path_factory.mktemp("time-outs"), TEXT)


def run_out(job: Job) -> None:
    Job.objects.filter(id=job.id).update(deadline_at=F("created_at"))
    conductor.tick()


def fired(job: Job) -> list[str]:
    return list(HookRun.objects.filter(job_id=job.id).values_list("event", flat=True))


@pytest.mark.parametrize("task", ["works", "asks", "tries", "unmatched"])
def test_a_job_that_nothing_runs_of_fails_at_once(home: Any, task: str) -> None:
    job = start(home, task)
    hand = Hand()
    if task == "tries":
        hand.finish(hand.take("a"), failed())
    run_out(job)
    assert (fresh(job).status, fresh(job).error) == ("failed", LATE)
    assert statuses(job)["a"] == "cancelled"
    assert Step.objects.get(job_id=job.id, name="a").error == LATE
    assert fired(job) == ["on_error"]


def test_a_running_step_is_stopped_and_says_why(home: Any) -> None:
    job = start(home, "works")
    hand = Hand()
    claim = hand.take("a")
    run_out(job)
    assert fresh(job).status == "running"
    assert hub.job_state(fresh(job))["stopping"] == "timing out"
    hand.finish(claim, STOPPED)
    assert (fresh(job).status, fresh(job).error) == ("failed", LATE)
    assert hub.job_state(fresh(job))["stopping"] == ""
    assert statuses(job) == {"a": "cancelled", "b": "cancelled"}
    assert Step.objects.get(job_id=job.id, name="a").error == LATE
    assert fired(job) == ["on_error"]


@pytest.mark.parametrize("outcome", [DONE, failed(), STOPPED])
def test_however_the_last_step_ends_a_job_out_of_time_has_failed(
    home: Any, outcome: StepOutcome
) -> None:
    job = start(home, "loops")
    hand = Hand()
    claim = hand.take("a[0]")
    run_out(job)
    hand.finish(claim, outcome)
    assert (fresh(job).status, fresh(job).error) == ("failed", LATE)
    assert statuses(job)["a"] == "cancelled" and "ready" not in statuses(job).values()
    assert fired(job) == ["on_error"]


def test_the_children_of_a_job_out_of_time_are_cancelled(home: Any) -> None:
    job = start(home, "calls")
    child = Job.objects.get(parent_job_id=job.id)
    run_out(job)
    assert (fresh(child).status, fresh(child).error) == ("cancelled", "Parent job timed out")
    assert (fresh(job).status, fresh(job).error) == ("failed", LATE)
    assert fired(job) == ["on_error"]


def test_a_child_out_of_time_fails_and_with_it_the_step_that_called(home: Any) -> None:
    job = start(home, "outer")
    child = Job.objects.get(parent_job_id=job.id)
    run_out(child)
    assert (fresh(child).status, fresh(child).error) == ("failed", LATE)
    assert statuses(job) == {"a": "failed", "b": "skipped"}
    assert fresh(job).error == f"Step 'a': Child job {child.id} failed: {LATE}"
    assert fired(job) == ["on_error"]


def test_retry_of_the_task_applies_to_a_time_out(home: Any) -> None:
    job = start(home, "retried")
    run_out(job)
    following = Job.objects.get(retry_of_id=job.id)
    assert fresh(job).status == "failed" and fired(job) == []
    admission.admit(following.id)
    assert Hand().work() == 1
    assert fresh(following).status == "completed"


def test_a_cancel_stays_a_cancel_and_comes_before_a_time_out(home: Any) -> None:
    first, second = start(home, "works"), start(home, "works")
    hand = Hand()
    claims = [hand.take("a"), hand.take("a")]
    services.cancel_job(first.id, actor="me@example.org", reason="not today")
    run_out(first)
    run_out(second)
    services.cancel_job(second.id, actor="me@example.org", reason="enough")
    for claim in claims:
        hand.finish(claim, STOPPED)
    assert (fresh(first).status, fresh(first).error) == ("cancelled", "not today")
    assert (fresh(second).status, fresh(second).error) == ("cancelled", "enough")
    assert fired(first) == fired(second) == ["on_cancel"]


def test_a_restart_after_a_time_out_has_the_whole_time_again(home: Any) -> None:
    job = start(home, "works")
    run_out(job)
    restart_failed(job.id)
    assert fresh(job).deadline_at > timezone.now()
    Hand().work()
    assert statuses(job) == {"a": "completed", "b": "completed"}
    assert fresh(job).status == "completed"


def test_the_default_time_out_holds_after_a_restart_too(home: Any, settings: Any) -> None:
    from dataclasses import replace

    settings.STROEM = replace(settings.STROEM, default_job_timeout_s=60.0)
    job = start(home, "inner")
    run_out(job)
    assert fresh(job).error == "Job timed out after 60s"
    restart_failed(job.id)
    assert fresh(job).deadline_at is not None


def test_a_wait_for_the_limit_of_the_task_costs_no_time(home: Any) -> None:
    first, second = start(home, "one"), start(home, "one")
    assert fresh(first).deadline_at and fresh(second).is_held
    assert fresh(second).deadline_at is None
    Hand().work()
    sweeps.due_jobs()
    assert fresh(second).deadline_at > fresh(first).deadline_at


def test_a_time_out_that_is_swept_by_two_is_carried_out_once(home: Any) -> None:
    job = start(home, "asks")
    Job.objects.filter(id=job.id).update(deadline_at=F("created_at"))
    assert sweeps.overdue_jobs() == 1 and sweeps.overdue_jobs() == 0
    assert fired(job) == ["on_error"]
    assert not Job.objects.filter(Q(id=job.id) & ~Q(status="failed")).exists()


def test_a_claim_says_how_long_its_job_may_still_take(home: Any) -> None:
    hand = Hand()
    start(home, "works")
    late = hand.claim()
    start(home, "inner")
    free = hand.claim()
    assert late is not None and free is not None
    assert late.job_ends_in_s is not None and 0 < late.job_ends_in_s <= 300
    assert free.job_ends_in_s is None
