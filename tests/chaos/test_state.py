"""One counter, many jobs at once, workers that are killed: what is counted is what has ended well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apps.artifacts.models import StateVersion
from apps.artifacts.state import history
from apps.jobs import services
from apps.jobs.models import Job, Step
from apps.workspaces.models import Workspace
from tests.apps.jobs.builders import until, workspace
from tests.house import House

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]
JOBS = 200
FLOW = """
actions:
  count:
    type: script
    on_worker_lost: retry
    script: |
      n=$(( {{ state.n | default(value=0) }} + 1 ))
      echo $n >"$STATE_OUT_DIR/n"
      echo "STATE: {\\"n\\": $n}"
tasks:
  main:
    state: {on_conflict: RULE}
    flow: {count: {action: count}}
"""


def run(house: House, folder: Path, rule: str, *, kills: int = 0) -> Workspace:
    house.scheduler()
    workers = [house.worker(f"w{number}") for number in range(2)]
    own = workspace(folder, FLOW.replace("RULE", rule), "counted")
    for _ in range(JOBS):
        services.start_job("counted", "main", {})

    def ended() -> int:
        return Job.objects.filter(completed_at__isnull=False).count()

    for number in range(kills):
        until(lambda number=number: ended() > JOBS * (number + 1) // (kills + 1), within_s=300)
        house.kill(workers.pop(0), tree=True)
        workers.append(house.worker(f"again{number}"))
    until(lambda: ended() == JOBS, within_s=600, every_s=0.2)
    return own


def kept(own: Workspace) -> Any:
    return history.newest(history.find(own.pk, "main"))


def test_serial_jobs_lose_nothing_though_workers_die(house: House, tmp_path: Path) -> None:
    own = run(house, tmp_path, "serialize", kills=2)
    assert kept(own).values == {"n": JOBS} and kept(own).version == JOBS
    assert [file.path for file in kept(own).files] == ["n"]
    assert set(Job.objects.values_list("status", flat=True)) == {"completed"}


def test_every_loss_is_told(house: House, tmp_path: Path) -> None:
    own = run(house, tmp_path, "fail")
    failed = list(Step.objects.filter(status="failed").values_list("error", flat=True))
    assert kept(own).values["n"] + len(failed) == JOBS and failed
    assert all("key 'n'" in error and "serialize" in error for error in failed)


def test_the_last_one_wins_if_the_author_says_so(house: House, tmp_path: Path) -> None:
    own = run(house, tmp_path, "last_wins")
    assert kept(own).version == JOBS and 1 <= kept(own).values["n"] <= JOBS
    assert StateVersion.objects.count() == 20
