"""Workers of one host that cannot judge each other: in pid namespaces of their own, as in
containers, and on the host, from which everybody is seen."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest
import yaml

from apps.fleet.models import Worker
from apps.jobs.models import Attempt, Job, Step
from apps.workspaces.models import Workspace
from runners.host.local import LocalConfig, LocalRunner
from tests.acceptance.engines import flow, fresh, unique, workspace
from tests.acceptance.test_images import platform
from tests.apps.jobs.builders import start, until
from tests.house import ROOT, House

__all__ = ["platform"]
pytestmark = [pytest.mark.root, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def house(quick_house: House) -> Iterator[House]:
    """Its isolated workers are told to end: `unshare` passes no signal on."""
    yield quick_house
    for process in quick_house.processes:
        for child in psutil.Process(process.pid).children():
            if process.args[0] == "unshare":  # type: ignore[index]
                child.terminate()


SOCKET = "/var/run/docker.sock"
ISOLATE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
# with a process that leaves the step's group, which only marks give away
STEPS = """
work:
  type: script
  script: "setsid sleep 2 & sleep 3; wait; echo 'OUTPUT: 1'"
"""


def isolated_worker(house: House, name: str) -> None:
    """A worker in a namespace of processes: its numbers there mean others outside."""
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
    until(lambda: Worker.objects.filter(name=name, pid__lt=100).exists(), within_s=60)


@pytest.mark.long
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
    keep_busy(tmp_path, workspace(tmp_path, {"workflow.yaml": flow(STEPS)}), names, seconds)


IN_CONTAINERS = """
boxed:
  type: script
  runner: docker
  script: "setsid sleep 2 & sleep 3; wait; echo 'OUTPUT: 1'"
"""


@pytest.fixture
def contained(
    docker_engine: docker.DockerClient, platform: str, quick_house: House
) -> Iterator[Callable[[str, dict[str, Any]], None]]:
    """Starts workers from the platform's image, on the host's network and engine. They share
    /tmp, where the servers of tests and this test's files are."""
    running: list[Any] = []

    def start(name: str, settings: dict[str, Any]) -> None:
        config = quick_house.folder / f"{name}.yaml"
        config.write_text(yaml.safe_dump({"worker_name": name, **settings}))
        given = {key: value for key, value in quick_house.env.items() if key.startswith("STROEM__")}
        container = docker_engine.containers.run(
            platform, ["worker", "--config", str(config)], environment=given, detach=True,
            network_mode="host", user="0", volumes=["/tmp:/tmp", f"{SOCKET}:{SOCKET}"],
        )  # fmt: skip
        running.append(container)
        until(lambda: Worker.objects.filter(name=name).exists(), within_s=60)
        assert Worker.objects.get(name=name).pid < 50, "it has a pid namespace of its own"

    yield start
    for container in running:
        container.remove(force=True, v=True)


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.timeout(3000)  # the platform's image may have to be built
def test_no_step_is_ended_by_a_stranger_in_a_container(
    quick_house: House, tmp_path: Path, contained: Any, base_image: str
) -> None:
    quick_house.scheduler()
    names = [unique("boxed"), unique("boxed"), unique("outer")]
    settings = {"docker": {}, "runner_image": base_image}
    for name in names[:2]:
        own = {"workspace_cache_dir": str(tmp_path / name), "max_concurrent": 3}
        contained(name, {"tags": ["script", "docker"], **own, **settings})
    quick_house.worker(names[2], "script", "docker", slots=3, **settings)
    text = flow(STEPS + IN_CONTAINERS)
    keep_busy(tmp_path, workspace(tmp_path, {"workflow.yaml": text}), names, 600)


def keep_busy(folder: Path, source: Workspace, names: list[str], seconds: int) -> None:
    """Jobs for all of these workers, beside a stranger that sees all of their processes and ends
    whatever nobody keeps."""
    stranger = LocalRunner(LocalConfig(cache_dir=folder / "cache"))
    until_then, jobs = time.monotonic() + seconds, list[Job]()
    open_jobs: list[Job] = []
    while time.monotonic() < until_then or open_jobs:
        open_jobs = [job for job in open_jobs if not is_over(job)]
        if time.monotonic() < until_then and len(open_jobs) < 12:
            open_jobs.append(start(source))
            jobs.append(open_jobs[-1])
        stranger.sweep(frozenset())
    found = Attempt.objects.filter(job_id__in=[job.id for job in jobs])
    assert {attempt.error for attempt in found} == {""}
    assert {fresh(job).status for job in jobs} == {"completed"}
    assert found.count() == Step.objects.filter(job_id__in=[job.id for job in jobs]).count()
    workers = Worker.objects.filter(id__in=found.values("worker_id"))
    assert {worker.name for worker in workers} == set(names)
    print(f"{len(jobs)} jobs, {found.count()} steps, all completed")


def is_over(job: Job) -> bool:
    return fresh(job).completed_at is not None
