"""Tags decide which worker may run a step: real workers, real queues."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.fleet.models import Worker
from apps.jobs.models import Attempt, Job, Step
from tests.apps.jobs.builders import fresh, start, until, workspace
from tests.house import House

pytestmark = pytest.mark.django_db(transaction=True)

TEXT = """
actions:
  plain: {type: script, script: "true"}
  armed: {type: script, script: "true", tags: [arm]}
tasks:
  gpu: {flow: {a: {action: plain, tags: [gpu]}, b: {action: plain, tags: [gpu]}, c: {action: plain, tags: [gpu]}}}
  arm: {flow: {a: {action: armed}}}
"""


@pytest.fixture
def house(tmp_path: Path, process_env: dict[str, str]) -> Iterator[House]:
    found = House(tmp_path, process_env, unmatched_step_timeout_secs=5)
    yield found
    found.close()


def ran_on(job: Job) -> set[str]:
    ids = Attempt.objects.filter(job_id=job.id).values_list("worker_id", flat=True)
    return set(Worker.objects.filter(id__in=ids).values_list("name", flat=True))


def ended(job: Job) -> bool:
    return fresh(job).completed_at is not None


def test_a_step_runs_only_where_all_its_tags_are(house: House, tmp_path: Path) -> None:
    found = workspace(tmp_path, TEXT)
    house.scheduler()
    house.worker("plain", "script")
    house.worker("gpu", "script", "gpu")
    jobs = [start(found, "gpu") for _ in range(5)]
    until(lambda: all(ended(job) for job in jobs))
    assert {fresh(job).status for job in jobs} == {"completed"}
    assert set().union(*(ran_on(job) for job in jobs)) == {"gpu"}


@pytest.mark.long
def test_a_step_that_nobody_may_run_fails_after_the_time_out(house: House, tmp_path: Path) -> None:
    job = start(workspace(tmp_path, TEXT), "arm")
    house.scheduler()
    house.worker("plain", "script")
    until(lambda: ended(job), within_s=30)
    assert (
        Step.objects.get(job_id=job.id).error
        == "No active worker with required tags to run this step. It needs arm, script; of the live"
        " workers, plain lacks arm"
    )


def test_a_worker_that_joins_in_time_gets_the_step(house: House, tmp_path: Path) -> None:
    house.env["STROEM__RECOVERY__UNMATCHED_STEP_TIMEOUT_SECS"] = "60"
    house.scheduler()
    house.worker("plain", "script")
    job = start(workspace(tmp_path, TEXT), "arm")
    house.worker("late", "script", "arm")
    until(lambda: ended(job), within_s=30)
    assert fresh(job).status == "completed" and ran_on(job) == {"late"}


def test_a_running_worker_hears_bells_of_a_tag_set_that_is_new(
    house: House, tmp_path: Path
) -> None:
    house.worker("able", "script", "gpu", "arm")
    found = workspace(tmp_path, TEXT)
    first = start(found, "gpu")
    until(lambda: ended(first))
    second = start(found, "arm")
    until(lambda: ended(second))
    assert fresh(second).status == "completed"
