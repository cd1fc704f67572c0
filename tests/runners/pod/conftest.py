"""Fixtures of the pod suite: a cluster whose pods really run."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import docker
import pytest

from engine.orders import Pinned
from runners.pod.config import PodConfig
from runners.pod.runner import PodRunner
from tests.runners.docker.engine import base_image, docker_engine, runner_image
from tests.runners.pod.fake_api import FakeCluster
from tests.runners.pod.workspace_server import WorkspaceServer

__all__ = ["base_image", "docker_engine", "runner_image"]


@pytest.fixture
def cluster(docker_engine: docker.DockerClient) -> Iterator[FakeCluster]:
    """A cluster; what a test leaves in it is a failure."""
    fake = FakeCluster(docker_engine)
    yield fake
    left = [*fake.pods, *fake.secrets]
    fake.close()
    deadline = time.monotonic() + 60
    mine = {"label": f"fake-cluster={fake.id}"}
    while running := docker_engine.containers.list(all=True, filters=mine, ignore_removed=True):
        assert time.monotonic() < deadline, running
        time.sleep(0.1)
    assert left == []
    # nothing is changed in place
    assert {method for method, _, _ in fake.requests} <= {"GET", "POST", "DELETE"}
    assert fake.complaints == []


@pytest.fixture
def config(cluster: FakeCluster, base_image: str, tmp_path: Path) -> PodConfig:
    return PodConfig(
        namespace="stroem-jobs",
        owner=f"test-{uuid.uuid4().hex[:12]}",
        runner_image=base_image,
        init_image=base_image,
        kubeconfig=cluster.write_kubeconfig(tmp_path / "kubeconfig"),
        poll_s=0.2,
        denial_s=1.0,
    )


@pytest.fixture
def make_runner(config: PodConfig) -> Callable[..., PodRunner]:
    """A runner with some settings of its own: `make_runner(pending_timeout_s=2)`."""
    return lambda **changes: PodRunner(replace(config, **changes))


@pytest.fixture
def runner(config: PodConfig) -> PodRunner:
    return PodRunner(config)


@pytest.fixture
def pin(docker_engine: docker.DockerClient) -> Iterator[Callable[[dict[str, str]], Pinned]]:
    """Serve files as a pinned workspace: `pin({"a.sh": "..."}) -> Pinned`."""
    servers: list[WorkspaceServer] = []

    def serve(files: dict[str, str], **options: Any) -> Pinned:
        mode = 0o755 if options.pop("executable", False) else 0o644
        server = WorkspaceServer(docker_engine, files, uuid.uuid4().hex, mode)
        servers.append(server)
        return Pinned(server.url, options.pop("shown", server.token))

    yield serve
    for server in servers:
        server.close()
