"""`retry` of a task that a step calls: the step waits for the run that counts."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import F

from apps.hooks.models import HookRun
from apps.jobs import services
from apps.jobs.flow import admission, children
from apps.jobs.flow.restarts import restart_failed
from apps.jobs.models import Job, Step
from apps.jobs.upkeep import sweeps
from engine.orders import StepOutcome
from tests.apps.jobs.builders import Hand, failed, fresh, output, start, statuses, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
TEXT = """
actions:
  work: {type: script, script: "true"}
  call: {type: task, task: inner}
  call-middle: {type: task, task: middle}
  note: {type: script, script: "true"}
tasks:
  inner:
    retry: {max_attempts: 3, delay: 1h}
    on_error: [{action: note}]
    input: {n: {type: integer, default: 0}}
    flow: {inside: {action: work}}
  middle: {flow: {down: {action: call}}}
  calls: {flow: {a: {action: call}, b: {action: work, depends_on: [a], input: {n: "{{ a.output.inside }}"}}}}
  timed: {flow: {a: {action: call, timeout: 60}, b: {action: work, depends_on: [a]}}}
  loops: {flow: {a: {action: call, for_each: [1, 2], input: {n: "{{ each.item }}"}, continue_on_failure: true}}}
  deep: {flow: {a: {action: call-middle}}}
"""


@pytest.fixture(scope="module")
def home(shared_db: None, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: F811
    return workspace(tmp_path_factory.mktemp("called"), TEXT)


def newest_child() -> Job:
    found = Job.objects.filter(task_name="inner").order_by("-id").first()
    assert found is not None
    return found


def run_child(outcome: StepOutcome) -> Job:
    """Carry out the newest run of the called task, without its delay."""
    child = newest_child()
    if child.due_at is not None:
        admission.admit(child.id)
    hand = Hand()
    hand.finish(hand.take("inside"), outcome)
    return child


def test_the_caller_waits_for_the_run_that_succeeds_and_has_its_output(home: Any) -> None:
    job = start(home, "calls")
    first = run_child(failed())
    assert fresh(first).status == "failed" and fresh(first).retry_job_id == newest_child().id
    assert statuses(job) == {"a": "running", "b": "pending"}
    run_child(output(7))
    assert Step.objects.get(job_id=job.id, name="a").output == {"inside": 7}
    Hand().work()
    assert fresh(job).status == "completed"
    assert not HookRun.objects.filter(event="on_error").exists()


def test_when_no_run_is_left_the_step_fails_and_the_hook_fires_once(home: Any) -> None:
    job = start(home, "calls")
    runs = [run_child(failed(f"run {number}")) for number in range(3)]
    assert statuses(job) == {"a": "failed", "b": "skipped"}
    assert fresh(job).error == f"Step 'a': Child job {runs[2].id} failed: Step 'inside': run 2"
    assert list(HookRun.objects.values_list("job_id", flat=True)) == [runs[2].id]


def test_each_item_of_a_loop_is_tried_by_itself(home: Any) -> None:
    job = start(home, "loops")
    hand = Hand()
    first, second = hand.take("inside"), hand.take("inside")
    hand.finish(first, output("one"))
    hand.finish(second, failed())
    assert fresh(job).status == "running"
    run_child(output("two"))
    assert [item["inside"] for item in Step.objects.get(job_id=job.id, name="a").output] == [
        "one",
        "two",
    ]


def test_a_task_below_a_called_task_is_retried_as_well(home: Any) -> None:
    job = start(home, "deep")
    run_child(failed())
    assert fresh(job).status == "running"
    run_child(output(1))
    assert fresh(job).status == "completed"


def test_the_time_out_of_the_step_covers_all_runs_and_ends_the_waiting_one(home: Any) -> None:
    job = start(home, "timed")
    run_child(failed())
    waiting = newest_child()
    Step.objects.filter(job_id=job.id, name="a").update(deadline_at=F("started_at"))
    sweeps.overdue_children()
    assert statuses(job) == {"a": "failed", "b": "skipped"}
    assert fresh(waiting).status == "cancelled" and fresh(job).status == "failed"


def test_a_cancel_of_the_caller_ends_the_run_that_waits(home: Any) -> None:
    job = start(home, "calls")
    run_child(failed())
    services.cancel_job(job.id, actor="me@example.org")
    assert fresh(newest_child()).status == "cancelled" and fresh(job).status == "cancelled"


def test_nobody_is_retried_for_a_caller_that_stops(home: Any) -> None:
    job = start(home, "calls")
    hand = Hand()
    claim = hand.take("inside")
    Job.objects.filter(id=job.id).update(cancel_requested_at=F("created_at"))
    hand.finish(claim, failed())
    assert Job.objects.filter(task_name="inner").count() == 1
    assert fresh(job).status == "cancelled"


def test_a_cancel_that_missed_the_next_run_is_made_up_for(home: Any) -> None:
    job = start(home, "calls")
    first = run_child(failed())
    Job.objects.filter(id=job.id).update(cancel_requested_at=F("created_at"))
    children.tell_parent(first.id)
    assert fresh(newest_child()).status == "cancelled" and fresh(job).status == "cancelled"


def test_a_restart_of_the_caller_begins_to_count_anew(home: Any) -> None:
    job = start(home, "calls")
    for _ in range(3):
        run_child(failed())
    restart_failed(job.id)
    assert newest_child().retry_attempt == 0
    run_child(failed())
    run_child(output(3))
    Hand().work()
    assert fresh(job).status == "completed"


def test_an_end_that_is_told_twice_changes_nothing(home: Any) -> None:
    job = start(home, "calls")
    first = run_child(failed())
    children.tell_parent(first.id)
    assert statuses(job)["a"] == "running" and Job.objects.filter(task_name="inner").count() == 2
