"""Workers of one host that cannot judge each other: in pid namespaces of their own, as in
containers, and on the host, from which everybody is seen."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import yaml

from apps.fleet.models import Worker
from apps.jobs.models import Attempt, Job
from runners.host.local import LocalConfig, LocalRunner
from tests.acceptance.engines import flow, fresh, unique, workspace
from tests.apps.jobs.builders import start, until
from tests.house import ROOT, House

pytestmark = [pytest.mark.root, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def house(quick_house: House) -> Iterator[House]:
    """Its isolated workers are told to end: `unshare` passes no signal on."""
    yield quick_house
    for process in quick_house.processes:
        for child in psutil.Process(process.pid).children():
            if process.args[0] == "unshare":  # type: ignore[index]
                child.terminate()


ISOLATE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
# with a process that leaves the step's group, which only marks give away
STEPS = """
work:
  type: script
  script: "setsid sleep 2 & sleep 3; wait; echo 'OUTPUT: 1'"
"""


def isolated_worker(house: House, name: str) -> None:
    """A worker that is process 1 of its namespace."""
    config = house.folder / f"{name}.yaml"
    own = {
        "worker_name": name,
        "max_concurrent": 3,
        "tags": ["script"],
        "workspace_cache_dir": str(house.folder / name),
    }
    config.write_text(yaml.safe_dump(own))
    command = [*ISOLATE, sys.executable, str(ROOT / "manage.py"), "worker", "--config", str(config)]
    with (house.folder / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command, env=house.env, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    house.processes.append(process)
    until(lambda: Worker.objects.filter(name=name, pid=1).exists(), within_s=60)


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(10, marks=pytest.mark.timeout(180)),
        pytest.param(600, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
    ],
)
def test_no_step_is_ended_by_a_stranger(house: House, tmp_path: Path, seconds: int) -> None:
    house.scheduler()
    names = [unique("inner"), unique("inner"), unique("outer")]
    for name in names[:2]:
        isolated_worker(house, name)
    house.worker(names[2], slots=3)
    stranger = LocalRunner(LocalConfig(cache_dir=tmp_path / "cache"))  # sees all of them
    source = workspace(tmp_path, {"workflow.yaml": flow(STEPS)})
    until_then, jobs = time.monotonic() + seconds, list[Job]()
    while time.monotonic() < until_then or any(not is_over(job) for job in jobs):
        if time.monotonic() < until_then and sum(not is_over(job) for job in jobs) < 12:
            jobs.append(start(source))
        stranger.sweep(frozenset())
    found = Attempt.objects.filter(job_id__in=[job.id for job in jobs])
    assert {attempt.error for attempt in found} == {""}
    assert {fresh(job).status for job in jobs} == {"completed"}
    assert found.count() == len(jobs)
    workers = Worker.objects.filter(id__in=found.values("worker_id"))
    assert {worker.name for worker in workers} == set(names)


def is_over(job: Job) -> bool:
    return fresh(job).completed_at is not None
