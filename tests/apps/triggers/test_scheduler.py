"""The real scheduler and a real worker: a clock of seconds, and what its steps see."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from apps.jobs.models import Job, Step
from apps.triggers import roster
from tests.apps.jobs.builders import until, workspace
from tests.apps.triggers.builders import trigger
from tests.house import House, database_url

pytestmark = pytest.mark.django_db(transaction=True)
EVERY_SECOND = """
tasks:
  main:
    flow:
      tell:
        type: script
        script: |
          echo "OUTPUT: {\\"at\\": \\"$STROEM_SCHEDULED_AT\\"}"
  follow:
    flow: { work: { type: script, script: "true" } }
triggers:
  nightly: { type: scheduler, cron: "* * * * * *", task: main }
  after: { type: job, on_job: { task: main }, task: follow }
"""


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(tmp_path, os.environ | {"STROEM__DB__URL": database_url()})
    yield found
    found.close()


def test_a_clock_starts_a_job_every_second_and_its_steps_know_the_time(
    house: House, tmp_path: Path
) -> None:
    workspace(tmp_path, EVERY_SECOND)
    house.scheduler()
    house.worker("only")
    done = Job.objects.filter(task_name="main", status="completed")
    until(lambda: done.count() >= 3, within_s=60)
    roster.set_paused(trigger().pk, True, "test")
    until(lambda: not Job.objects.exclude(status="completed").exists(), within_s=60)
    until(lambda: Job.objects.filter(task_name="follow").count() == done.count(), within_s=60)

    jobs = {job.pk: job.scheduled_at for job in done}
    assert len(set(jobs.values())) == len(jobs)
    for step in Step.objects.filter(job_id__in=jobs, name="tell"):
        assert datetime.fromisoformat(step.output["at"]) == jobs[step.job_id]
