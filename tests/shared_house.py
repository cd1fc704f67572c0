"""One installation for all tests of a module: a scheduler, a worker, and tasks started as
`manage.py run` starts them.

For modules that run many small tasks: `run` itself brings servers of its own each time, which costs
a hundred times as much as the task. A module takes part with

    from tests.shared_house import _django_db_helper, shared_db, shared_runs
    pytestmark = pytest.mark.django_db(transaction=True)
"""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.apps.jobs.shared import shared_db
from tests.house import House, database_url

__all__ = ["Runs", "_django_db_helper", "shared_db", "shared_runs"]


@dataclass(frozen=True)
class Runs:
    """Runs tasks out of folders; each is imported first."""

    worker: subprocess.Popen[bytes]

    def run(self, folder: Path, task: str, inputs: Iterable[str]) -> tuple[dict[str, Any], str]:
        """The answer that `run --json` prints, and what it shows meanwhile. `inputs` are
        NAME=VALUE."""
        from apps.jobs.services import start_job
        from apps.workspaces.services import import_folder
        from console.database import Database
        from console.follower import Follower, answer
        from console.screen import Screen
        from console.typed_input import read_inputs
        from console.workspace_path import read_path, workspace_name

        path, loaded = read_path(str(folder))
        assert loaded.workspace is not None, loaded.problems
        name = workspace_name(path)
        assert not import_folder(name, path).has_failed
        job = start_job(name, task, read_inputs(inputs), source_type="user", source_id="run")
        shown = io.StringIO()
        platform = Database()
        Follower(platform, job.id, Screen(shown)).follow(
            is_stopped=lambda: self.worker.poll() is not None
        )
        assert self.worker.poll() is None, "the worker has ended"
        return answer(platform, platform.result(job.id)), shown.getvalue()


@pytest.fixture
def _django_db_helper(shared_db: None) -> None:
    """In place of pytest-django's, which would empty the database below the running processes."""


@pytest.fixture(scope="module", name="runs")
def shared_runs(shared_db: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    house = House(
        tmp_path_factory.mktemp("house"), os.environ | {"STROEM__DB__URL": database_url()}
    )
    try:
        house.scheduler()
        yield Runs(house.worker("only"))
    finally:
        house.close()
