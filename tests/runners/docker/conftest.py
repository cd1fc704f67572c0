"""Fixtures of the Docker suite."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from runners.docker import DockerConfig, DockerRunner
from tests.runners.docker.engine import base_image, docker_engine, runner_image

__all__ = ["base_image", "docker_engine", "runner_image"]


@pytest.fixture
def owner() -> str:
    """A worker's name that no other test has."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def config(owner: str, base_image: str, tmp_path: Path) -> DockerConfig:
    return DockerConfig(owner=owner, runner_image=base_image, startup_dir=tmp_path / "no-startup")


@pytest.fixture
def runner(config: DockerConfig, docker_engine: docker.DockerClient) -> Iterator[DockerRunner]:
    """A runner; what its tests leave behind is a failure, but for the caches that it keeps on purpose."""
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
