"""`max_parallel` counts what is out, not what waits for its retry."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import F

from apps.jobs.models import Job, Step
from apps.jobs.upkeep import sweeps
from tests.apps.jobs.builders import Hand, failed, fresh, start, statuses, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)
TEXT = """
actions: {work: {type: script, script: "true", retry: {max_attempts: 3, delay: 1h}}}
tasks:
  main: {flow: {a: {action: work, for_each: [0, 1, 2, 3], max_parallel: 2}}}
  plain: {flow: {a: {action: work, for_each: [0, 1, 2, 3]}}}
  sequential: {flow: {a: {action: work, for_each: [0, 1, 2], sequential: true}}}
"""


@pytest.fixture(scope="module")
def home(shared_db: None, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: F811
    return workspace(tmp_path_factory.mktemp("places"), TEXT)


def make_due(job: Job) -> None:
    waiting = Step.objects.filter(job_id=job.id, status="pending", retry_at__isnull=False)
    waiting.update(retry_at=F("started_at"))
    sweeps.due_steps()


def out(job: Job) -> list[str]:
    """The steps of the loop that run or may begin at any moment."""
    found = statuses(job).items()
    return [name for name, status in found if "[" in name and status in ("ready", "running")]


def test_a_step_in_its_retry_delay_leaves_its_place_to_the_next(home: Any) -> None:
    job, hand = start(home, "main"), Hand()
    hand.finish(hand.take("a[0]"), failed())
    assert out(job) == ["a[1]", "a[2]"]
    hand.finish(hand.take("a[1]"), failed())
    assert out(job) == ["a[2]", "a[3]"]


def test_a_due_retry_waits_for_a_place_and_comes_before_what_has_not_begun(home: Any) -> None:
    job, hand = start(home, "main"), Hand()
    hand.finish(hand.take("a[0]"), failed())
    make_due(job)
    assert out(job) == ["a[1]", "a[2]"], "both places are taken"
    hand.finish(hand.take("a[1]"))
    assert out(job) == ["a[0]", "a[2]"]
    assert hand.work() == 3
    assert fresh(job).status == "completed"


def test_what_is_left_at_the_end_is_tried_again_when_due(home: Any) -> None:
    job, hand = start(home, "main"), Hand()
    hand.work({"a": failed()})
    assert out(job) == [] and fresh(job).status == "running"
    make_due(job)
    assert len(out(job)) == 2
    hand.work()
    make_due(job)
    hand.work()
    assert fresh(job).status == "completed"
    assert set(statuses(job).values()) == {"completed"}


def test_when_no_attempt_is_left_the_loop_fails(home: Any) -> None:
    job, hand = start(home, "main"), Hand()
    for _ in range(6):
        hand.work({"a": failed()})
        make_due(job)
    assert fresh(job).status == "failed"
    assert Step.objects.filter(job_id=job.id, name__startswith="a[").count() == 4
    assert {step.attempts for step in Step.objects.filter(job_id=job.id, loop_id__gt=0)} == {3}


def test_one_at_a_time_waits_for_the_retry_before_the_next(home: Any) -> None:
    job, hand = start(home, "sequential"), Hand()
    hand.finish(hand.take("a[0]"), failed())
    assert out(job) == []
    make_due(job)
    assert out(job) == ["a[0]"]
    assert hand.work() == 3
    assert fresh(job).status == "completed"


def test_without_a_limit_every_retry_begins_when_due(home: Any) -> None:
    job, hand = start(home, "plain"), Hand()
    hand.work({"a": failed()})
    make_due(job)
    assert len(out(job)) == 4
