"""Engines that die, engines that cannot see the worker's files, and workers that die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker
import pytest

from engine.orders import Verdict
from runners.docker.config import DockerConfig
from runners.docker.runner import DockerRunner
from tests.runners.contract import Log, Stop, build_order
from tests.runners.docker.engine import ROOT
from tests.runners.docker.second_engine import IMAGE, SecondEngine

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

WORKER = """
import json, sys
from pathlib import Path
from runners.docker.config import DockerConfig
from runners.docker.runner import DockerRunner
from tests.runners.contract import Log, Stop, build_order

settings = json.loads(sys.argv[1])
runner = DockerRunner(DockerConfig(**settings["config"]))
home = Path(settings["home"])
tree = home / "tree"
(tree / "sub").mkdir(parents=True, exist_ok=True)
(tree / "sub" / "name.txt").write_text("World")
log = Log()
for mode in settings["modes"]:
    order = build_order(home, settings["code"], workspace_dir=tree, workspace_mode=mode)
    print(json.dumps({"attempt": order.attempt}), flush=True)
    outcome = runner.run(order, lambda line: print(json.dumps({"text": line.text}), flush=True), Stop())
    print(json.dumps({"verdict": outcome.verdict, "error": outcome.error}), flush=True)
"""


@pytest.fixture
def second(tmp_path: Path) -> Iterator[SecondEngine]:
    engine = SecondEngine(tmp_path)
    yield engine
    engine.close()


@pytest.fixture
def blind(tmp_path: Path) -> Iterator[SecondEngine]:
    """An engine to which this test's files are not there."""
    engine = SecondEngine(tmp_path, hidden=tmp_path)
    yield engine
    engine.close()


def make_runner(engine: SecondEngine, **changes: object) -> DockerRunner:
    settings = {
        "owner": f"test-{uuid.uuid4().hex[:8]}",
        "runner_image": IMAGE,
        "host": engine.url,
        "pull": "never",
    }
    return DockerRunner(DockerConfig(**{**settings, **changes}))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["kill -9", "shut down"])
def test_an_engine_that_dies_takes_the_step_with_it(
    second: SecondEngine, tmp_path: Path, number: int
):
    runner = make_runner(second, engine_grace_s=2.0)
    order, log = build_order(tmp_path, "echo ready; sleep 300"), Log()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(runner.run, order, log, Stop())
        log.wait_for("ready")
        second.kill(number)
        outcome = future.result(30)
    assert outcome.verdict is Verdict.LOST
    assert "engine" in outcome.error
    second.start()
    runner.sweep(frozenset())
    client = second.connect()
    assert client.containers.list(all=True) == []
    client.close()


def test_an_engine_that_is_not_there_is_a_loss_and_not_an_exception(tmp_path: Path):
    runner = DockerRunner(DockerConfig(owner="w", host=f"unix://{tmp_path}/nothing.sock"))
    outcome = runner.run(build_order(tmp_path, "true"), Log(), Stop())
    assert outcome.verdict is Verdict.LOST
    assert "cannot be reached" in outcome.error
    runner.sweep(frozenset())


def test_a_workspace_is_copied_in_where_the_engine_cannot_see_it(
    blind: SecondEngine, tmp_path: Path
):
    runner = make_runner(blind)
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "name.txt").write_text("World")
    for mode, expected in (("readonly", Verdict.FAILED), ("copy", Verdict.SUCCEEDED)):
        log = Log()
        order = build_order(
            tmp_path, "cat sub/name.txt; echo; touch x", workspace_dir=tree, workspace_mode=mode
        )
        outcome = runner.run(order, log, Stop())
        assert "World" in log.texts()
        assert outcome.verdict is expected
    client = blind.connect()
    assert client.containers.list(all=True) == []
    assert client.volumes.list() == []
    client.close()


def test_a_worker_in_a_container_with_an_engine_beside_it(
    docker_engine: docker.DockerClient, base_image: str, blind: SecondEngine
):
    """The worker's container is on one engine, its steps on another, which sees none of the
    worker's directories."""
    settings = {
        "config": {
            "owner": "inner",
            "runner_image": IMAGE,
            "host": "unix:///engine/d.sock",
            "pull": "never",
        },
        "home": "/home/worker",
        "modes": ["readonly", "copy"],
        "code": "cat sub/name.txt; echo",
    }
    output = docker_engine.containers.run(
        base_image,
        [
            "sh",
            "-c",
            'mkdir -p /home/worker && exec python3 -c "$1" "$2"',
            "sh",
            WORKER,
            json.dumps(settings),
        ],
        environment={"PYTHONPATH": f"/stroem:{_find_packages()}"},
        volumes={
            str(ROOT): {"bind": "/stroem", "mode": "ro"},
            _find_packages(): {"bind": _find_packages(), "mode": "ro"},
            str(blind.socket.parent): {"bind": "/engine", "mode": "rw"},
        },
        remove=True,
        stderr=True,
    )
    told = [json.loads(line) for line in output.decode().splitlines() if line.startswith("{")]
    assert [line["text"] for line in told if "text" in line] == ["World", "World"], output.decode()
    assert [line["verdict"] for line in told if "verdict" in line] == ["succeeded", "succeeded"]


def test_a_worker_that_is_killed_leaves_a_container_that_the_next_one_removes(
    docker_engine: docker.DockerClient, base_image: str, tmp_path: Path, owner: str
):
    settings = {
        "config": {"owner": owner, "runner_image": base_image},
        "home": str(tmp_path),
        "modes": ["copy"],
        "code": "echo ready; sleep 300",
    }
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, json.dumps(settings)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert worker.stdout is not None
    attempt = json.loads(worker.stdout.readline())["attempt"]
    assert json.loads(worker.stdout.readline())["text"] == "ready"
    worker.kill()
    worker.wait()
    mine = {"label": f"stroem.io/attempt={attempt}"}
    assert [item.name for item in docker_engine.containers.list(filters=mine)] == [
        f"stroem-{attempt}"
    ]

    DockerRunner(DockerConfig(owner="somebody-else")).sweep(frozenset())
    DockerRunner(DockerConfig(owner=owner)).sweep(frozenset({attempt}))
    assert docker_engine.containers.list(filters=mine)

    DockerRunner(DockerConfig(owner=owner)).sweep(frozenset())
    assert docker_engine.containers.list(all=True, filters=mine) == []


def test_a_second_start_of_the_same_attempt_does_not_run_it_twice(
    docker_engine: docker.DockerClient, runner: DockerRunner, tmp_path: Path
):
    order, log = build_order(tmp_path, "echo ready; sleep 300"), Log()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(runner.run, order, log, Stop())
        log.wait_for("ready")
        outcome = runner.run(order, Log(), Stop())
        assert outcome.verdict is Verdict.LOST
        assert "already existed" in outcome.error
        assert first.result(30).verdict is not Verdict.SUCCEEDED


def _find_packages() -> str:
    return str(Path(docker.__file__).parents[1])
