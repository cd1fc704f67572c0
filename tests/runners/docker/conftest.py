"""Fixtures of the Docker suite."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from engine.orders import StepOutcome
from runners.docker.config import DockerConfig
from runners.docker.runner import DockerRunner
from tests.runners.contract import Log, Stop, build_order
from tests.runners.docker.engine import base_image, docker_engine, runner_image
from tests.runners.docker.shelf import go_image, node_image, odd_image

__all__ = ["base_image", "docker_engine", "go_image", "node_image", "odd_image", "runner_image"]

Finish = Callable[..., tuple[StepOutcome, Log]]


@pytest.fixture
def owner() -> str:
    """A worker's name that no other test has."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def config(owner: str, base_image: str, tmp_path: Path) -> DockerConfig:
    return DockerConfig(owner=owner, runner_image=base_image, startup_dir=tmp_path / "no-startup")


@pytest.fixture
def runner(config: DockerConfig, docker_engine: docker.DockerClient) -> Iterator[DockerRunner]:
    """A runner; what its tests leave behind is a failure, but for the caches that it keeps on
    purpose."""
    yield DockerRunner(config)
    mine = {"label": f"stroem.io/owner={config.owner}"}
    left = docker_engine.containers.list(all=True, filters=mine)
    names = [container.name for container in left]
    for container in left:
        container.remove(force=True, v=True)
    volumes = docker_engine.volumes.list(filters=mine)
    names += [volume.name for volume in volumes]
    for volume in volumes:
        volume.remove(force=True)
    for volume in docker_engine.volumes.list(filters={"name": f"stroem-cache-{config.owner}"}):
        volume.remove(force=True)
    assert names == []


@pytest.fixture
def finish(runner: DockerRunner, tmp_path: Path) -> Finish:
    def run(code: str | None = None, **fields: Any) -> tuple[StepOutcome, Log]:
        log = Log()
        return fields.pop("runner", runner).run(
            build_order(tmp_path, code, **fields), log, Stop()
        ), log

    return run


@pytest.fixture
def tools(config: DockerConfig, runner_image: str) -> DockerRunner:
    """A runner with the runner image of this repository."""
    return DockerRunner(replace(config, runner_image=runner_image))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "data.csv").write_text("a,b\n1,2\n3,4\n")
    return folder
