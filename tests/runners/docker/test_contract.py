"""The Docker runner keeps every promise of the runner contract."""

from __future__ import annotations

import docker
import pytest

from runners.docker.runner import DockerRunner
from tests.runners.contract import Leftovers, RunnerContract

pytestmark = [pytest.mark.docker, pytest.mark.timeout(180)]


class TestDockerRunner(RunnerContract):
    slack_s = 1.0

    @pytest.fixture
    def runner(self, runner: DockerRunner) -> DockerRunner:
        return runner

    @pytest.fixture
    def leftovers(self, docker_engine: docker.DockerClient) -> Leftovers:
        def find(attempt: str) -> list[str]:
            mine = {"label": f"stroem.io/attempt={attempt}"}
            containers = docker_engine.containers.list(all=True, filters=mine)
            volumes = docker_engine.volumes.list(filters=mine)
            return [item.name for item in (*containers, *volumes)]

        return find
