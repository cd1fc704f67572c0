"""Workers and engines that die while a step is in a container: an engine of the test's own, so that
everything on it can be counted."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.jobs import services
from apps.jobs.models import Job
from tests.acceptance.engines import end_of, steps, texts, unique, wait_for_text, workspace
from tests.apps.jobs.builders import start, until
from tests.house import House
from tests.runners.docker.second_engine import IMAGE, SecondEngine

pytestmark = [pytest.mark.docker, pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]

HOLD = """
actions:
  hold:
    type: script
    runner: docker
    MORE
    script: "cat data.csv; echo ready; sleep 300"
tasks: {main: {flow: {hold: {action: hold}}}}
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[SecondEngine]:
    found = SecondEngine(tmp_path)
    yield found
    found.close()


@pytest.fixture
def blind(tmp_path: Path) -> Iterator[SecondEngine]:
    """An engine that sees no file of the worker's: workspaces go to it as volumes."""
    found = SecondEngine(tmp_path, hidden=tmp_path)
    yield found
    found.close()


def begin(house: House, engine: SecondEngine, **settings: Any) -> Any:
    section = {"host": engine.url, "pull": "never", **settings}
    return house.worker(unique("docker"), "docker", docker=section, runner_image=IMAGE)


def hold(folder: Path, more: str = "") -> Job:
    files = {"workflow.yaml": HOLD.replace("MORE", more), "data.csv": "a,b\n"}
    job = start(workspace(folder, files))
    wait_for_text(job, "hold", "ready")
    return job


def rest(engine: SecondEngine) -> list[str]:
    """All containers, volumes and networks of an engine, but for the networks that every engine
    has."""
    client = engine.connect()
    try:
        return [
            *(item.name for item in client.containers.list(all=True, ignore_removed=True)),
            *(item.name for item in client.volumes.list()),
            *(
                item.name
                for item in client.networks.list()
                if item.name not in ("bridge", "host", "none")
            ),
        ]
    finally:
        client.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "shut down"])
def test_a_step_whose_engine_dies_is_lost_with_one_sentence_and_nothing_stays_on_the_engine(
    quick_house: House, tmp_path: Path, engine: SecondEngine, number: int
) -> None:
    quick_house.scheduler()
    begin(quick_house, engine)
    job = hold(tmp_path)
    assert len(rest(engine)) == 1
    engine.kill(number)
    engine.start()
    assert end_of(job).status == "failed"
    error = steps(job)["hold"].error
    assert error.startswith("The Docker engine lost the container while the step ran"), error
    assert "\n" not in error
    until(lambda: rest(engine) == [], within_s=60)


@pytest.mark.slow
def test_a_job_ends_although_its_engine_stays_away_and_its_container_goes_when_the_engine_is_back(
    quick_house: House, tmp_path: Path, engine: SecondEngine
) -> None:
    quick_house.scheduler()
    begin(quick_house, engine, engine_grace_s=2)
    job = hold(tmp_path)
    engine.kill()
    assert end_of(job).status == "failed"
    assert "became unreachable" in steps(job)["hold"].error
    engine.start()
    until(lambda: rest(engine) == [], within_s=60)


def test_a_step_that_may_be_repeated_runs_again_once_the_engine_is_back(
    quick_house: House, tmp_path: Path, engine: SecondEngine
) -> None:
    quick_house.scheduler()
    begin(quick_house, engine)
    job = hold(tmp_path, "on_worker_lost: retry")
    engine.kill()
    engine.start()
    until(lambda: texts(job, "hold").count("ready") == 2, within_s=60)
    services.cancel_job(job.id, actor="test")
    assert end_of(job).status == "cancelled"
    until(lambda: rest(engine) == [], within_s=60)


@pytest.fixture
def tls(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, quick_house: House
) -> Iterator[SecondEngine]:
    """An engine that sees no file of the worker's and is reached over TLS: Docker in Docker, as in
    the chart. The house's environment leads to it."""
    found = SecondEngine(tmp_path_factory.mktemp("tls"), hidden=tmp_path, uses_tls=True)
    quick_house.env |= found.environment
    yield found
    found.close()


INNER = """
actions:
  reads: { type: script, runner: docker, script: "cat data.csv; echo 'OUTPUT: 1'" }
  writes:
    type: script
    runner: docker
    workspace: copy
    user: "1000:1000"
    shm_size: 8Mi
    script: "touch made && df -k /dev/shm | tail -n 1 && id -u && echo 'OUTPUT: 2'"
  image: { type: docker, image: IMAGE, cmd: "echo 'OUTPUT: 3'" }
tasks:
  main:
    flow:
      reads: { action: reads }
      writes: { action: writes, depends_on: [reads] }
      image: { action: image, depends_on: [writes] }
"""


def test_docker_in_docker_over_tls_runs_every_kind_of_step_and_is_cleaned_up(
    quick_house: House, tmp_path: Path, tls: SecondEngine
) -> None:
    quick_house.scheduler()
    section = {"pull": "never"}
    victim = quick_house.worker(unique("docker"), "docker", docker=section, runner_image=IMAGE)
    files = {"workflow.yaml": INNER.replace("IMAGE", IMAGE), "data.csv": "a,b\n"}
    job = end_of(start(workspace(tmp_path, files)))
    assert job.status == "completed", {name: one.error for name, one in steps(job).items()}
    assert [steps(job)[name].output for name in ("reads", "writes", "image")] == [1, 2, 3]
    assert "8192" in texts(job, "writes")[0] and texts(job, "writes")[1] == "1000"
    hold(tmp_path)
    assert rest(tls)
    victim.kill()
    until(lambda: rest(tls) == [], within_s=60)


def test_a_killed_worker_leaves_neither_container_nor_volume_nor_network(
    quick_house: House, tmp_path: Path, blind: SecondEngine
) -> None:
    quick_house.scheduler()
    victim = begin(quick_house, blind)
    jobs = [hold(tmp_path, f"workspace: {mode}") for mode in ("readonly", "copy")]
    assert len(rest(blind)) == 3, "two containers, and the volume with the read-only workspace"
    victim.kill()
    until(lambda: rest(blind) == [], within_s=60)
    assert [end_of(job).status for job in jobs] == ["failed", "failed"]
