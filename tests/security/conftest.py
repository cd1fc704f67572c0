"""Directories of a worker that runs steps as other users."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers.disk import WorkerDirectory


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
