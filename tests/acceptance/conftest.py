"""Fixtures of the acceptance tests that need an engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house import House
from tests.runners.docker.engine import base_image, docker_engine, runner_image
from tests.runners.docker.shelf import node_image

__all__ = ["base_image", "docker_engine", "node_image", "runner_image"]


@pytest.fixture
def calm_house(tmp_path: Path, process_env: dict[str, str]) -> Iterator[House]:
    """A house that gives a silent worker its full half minute: for tests in which none has to
    die."""
    found = House(tmp_path, process_env)
    yield found
    found.close()


@pytest.fixture
def quick_house(tmp_path: Path, process_env: dict[str, str]) -> Iterator[House]:
    """A house that takes a worker for lost after ten seconds, the least that may be set."""
    found = House(tmp_path, process_env, heartbeat_timeout_secs=10, sweep_interval_secs=5)
    yield found
    found.close()
