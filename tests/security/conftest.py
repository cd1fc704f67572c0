"""Directories of a worker that runs steps as other users, and the brokers that attacks write to."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.conftest import bench, celery_app
from tests.workers.test_rabbitmq import rabbit
from workers.disk import WorkerDirectory

__all__ = ["bench", "celery_app", "directory", "place", "rabbit"]


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="stroem-test-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def directory(place: Path) -> Iterator[WorkerDirectory]:
    made = WorkerDirectory(place / "cache", is_shared=True)
    yield made
    made.close()
