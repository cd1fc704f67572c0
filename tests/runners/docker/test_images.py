"""Images from a real registry: policy, progress, credentials, and what is told when one cannot be
had."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from engine.orders import ImageWork, StepOutcome, Verdict
from runners.docker.config import DockerConfig, Login
from runners.docker.runner import DockerRunner
from tests.runners.contract import Log, Stop, build_order
from tests.runners.docker.engine import build_image, need
from tests.runners.docker.second_engine import BUSYBOX

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

LOGIN = {"username": "worker", "password": "registry-canary"}
# of that password, with bcrypt
HASHED = "$2b$04$OMTDnLzrhmI/fbp1a4w6EuJaCAgQKTOHCBnYJi.XnkEiryRG2OFMC"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """The address of a registry that wants credentials."""
    need(shutil.which("docker-registry"), "docker-registry is needed to test pulls")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (tmp_path / "htpasswd").write_text(f"{LOGIN['username']}:{HASHED}\n")
    (tmp_path / "registry.yml").write_text(
        "version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory:"
        f" {tmp_path}/registry}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\nauth: {{htpasswd: {{realm:"
        f" test, path: {tmp_path}/htpasswd}}}}\n"
    )
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(tmp_path / "registry.yml")],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    deadline = time.monotonic() + 20
    while not _listens(port):
        assert time.monotonic() < deadline, (tmp_path / "registry.log").read_text()
        time.sleep(0.05)
    yield f"127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


@pytest.fixture
def pushed(registry: str, docker_engine: docker.DockerClient) -> Iterator[str]:
    """An image that is in the registry and not on the engine."""
    tag = f"{registry}/team/tool:1"
    recipe = (
        f'FROM scratch\nCOPY busybox /\nLABEL made-for={registry}\nENTRYPOINT ["/busybox", "echo",'
        ' "pulled"]\n'
    )
    need(BUSYBOX.exists(), "busybox-static is needed for a small image")
    files = {"Dockerfile": (recipe.encode(), 0o644), "busybox": (BUSYBOX.read_bytes(), 0o755)}
    build_image(docker_engine, tag, files)
    assert "error" not in docker_engine.images.push(tag, auth_config=LOGIN)
    docker_engine.images.remove(tag, force=True)
    yield tag
    for image in docker_engine.images.list(tag):
        docker_engine.images.remove(image.id, force=True)


@pytest.fixture
def finish(config: DockerConfig, tmp_path: Path) -> Callable[..., tuple[StepOutcome, Log]]:
    def run(image: str, **changes: Any) -> tuple[StepOutcome, Log]:
        log = Log()
        runner = DockerRunner(replace(config, **changes))
        return runner.run(build_order(tmp_path, work=ImageWork(image)), log, Stop()), log

    return run


def test_a_missing_image_is_pulled_once_with_progress_in_the_log(
    finish: Any, pushed: str, registry: str
):
    logins = {registry: Login(**LOGIN)}
    outcome, log = finish(pushed, registries=logins)
    assert outcome.verdict is Verdict.SUCCEEDED, outcome.error
    told = log.texts("server")
    assert told[0] == f"Pulling image {pushed}"
    assert told[-1].startswith(f"Pulled image {pushed} (sha256:")
    assert [text for text in told if text.endswith(("Pull complete", "Already exists"))]
    assert LOGIN["password"] not in "".join(told)
    again, log = finish(pushed, registries=logins)
    assert again.verdict is Verdict.SUCCEEDED
    assert log.texts("server") == []


def test_without_credentials_the_error_says_where_they_belong(finish: Any, pushed: str):
    outcome, _ = finish(pushed)
    assert outcome.verdict is Verdict.FAILED
    assert pushed in outcome.error
    assert "credentials" in outcome.error


def test_an_image_that_is_not_there_is_named_with_the_registrys_words(finish: Any, registry: str):
    outcome, _ = finish(f"{registry}/team/nothing:9", registries={registry: Login(**LOGIN)})
    assert outcome.verdict is Verdict.FAILED
    assert f"{registry}/team/nothing:9" in outcome.error
    assert "manifest" in outcome.error


def test_always_pulling_falls_back_to_the_copy_that_is_here(finish: Any, base_image: str):
    outcome, log = finish(base_image, pull="always")
    assert outcome.verdict is Verdict.SUCCEEDED
    assert "using the local copy" in log.texts("server")[-1]


def test_never_pulling_says_so(finish: Any):
    outcome, _ = finish("nobody/nothing:1", pull="never")
    assert outcome.verdict is Verdict.FAILED
    assert "docker.pull" in outcome.error


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True
