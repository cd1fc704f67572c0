"""Fixtures for tests in which actions are really done: by the worker's own code, in this
process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runners.guard.guard import Guard
from tests.apps.workflow_actions.doing import Doer, Sbatch


@pytest.fixture(scope="session")
def guard() -> Iterator[Guard]:
    found = Guard(600.0, 10.0)
    found.start()
    yield found
    found.close()


@pytest.fixture
def doer(tmp_path: Path, guard: Guard) -> Doer:
    return Doer(tmp_path, guard)


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sbatch:
    """A program of this name that takes every request and keeps it."""
    found = Sbatch(tmp_path / "slurm")
    monkeypatch.setenv("PATH", str(found.folder), prepend=":")
    return found
