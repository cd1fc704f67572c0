"""Does actions as a worker does them: its own code and real processes, without the worker's threads
around it."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

from apps.jobs import ledger as steps
from apps.jobs.ledger import Claim
from apps.jobs.log.cursors import Choice, Cursor, Whose, read
from apps.jobs.models import Job
from apps.workflow_actions import ledger
from apps.workflow_actions.models import JobAction
from apps.workspaces.models import Workspace
from apps.workspaces.services import import_folder
from engine.orders import StepOutcome
from engine.slurm_script import Launch
from runners.guard.guard import Guard
from workers.actions import Actions
from workers.attempts import Attempt, Stop
from workers.outputs import Outputs
from workers.reporting import LogPump

_numbers = itertools.count()


class Doer:
    """`root` holds the output directory of each job."""

    def __init__(self, folder: Path, guard: Guard) -> None:
        self.root = folder / "outputs"
        config = folder / "on-nodes.yaml"
        config.touch(0o600)
        launch = Launch(("stroem-worker",), str(folder), str(config))
        self._pump = LogPump(steps.append, lambda: None)
        self._actions = Actions(
            steps, ledger, Outputs(self.root), guard, launch, self._pump, stop_grace_s=1.0
        )

    def perform(self, claim: Claim, stop: Stop | None = None) -> StepOutcome:
        """Do the action and report it."""
        attempt = Attempt(claim, time.monotonic(), stop=stop or Stop())
        ended = self._actions.perform(attempt).ended
        assert ended is not None
        for batch in ended.batches:
            assert steps.append(claim, *batch)
        assert steps.finish(ended.report).accepted
        return ended.report.outcome

    def output(self, job: Job) -> Path:
        return self.root / str(job.id)


class Sbatch:
    """Slurm as far as a request for nodes sees it: every one is granted, and what was asked is
    kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        count = f'n=$(($(ls "{folder}"/asked.* 2>/dev/null | wc -l) + 1))'
        self._write("sbatch", f'{count}\ncat > "{folder}/asked.$n"\necho $((1000 + n))')
        self._write("squeue", "exit 0")
        self._write("scancel", "exit 0")

    def says(self, body: str) -> None:
        """From now on sbatch does this; `$(calls)` is how often it was called."""
        count = f'calls() {{ wc -l <"{self.folder}/calls" | tr -d " "; }}'
        self._write("sbatch", f'cat >/dev/null; echo x >>"{self.folder}/calls"; {count}\n{body}')

    def queue(self, body: str) -> None:
        """From now on squeue does this."""
        self._write("squeue", body)

    @property
    def calls(self) -> int:
        return len((self.folder / "calls").read_text().splitlines())

    def _write(self, name: str, body: str) -> None:
        path = self.folder / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        return [path.read_text() for path in sorted(self.folder.glob("asked.*"))]


def specification(folder: Path, text: str, suffix: str = "yaml") -> Workspace:
    """A workspace that is one Torc file, alone in a folder."""
    root = folder / f"torc{next(_numbers)}"
    root.mkdir()
    path = root / f"spec.{suffix}"
    path.write_text(text)
    found = import_folder(root.name, path)
    assert not found.has_failed, found.problems
    return found


def log_of(job: Job, label: str) -> list[str]:
    """The lines of an action's runs, in order."""
    ids = [row.id for row in JobAction.objects.filter(job_id=job.id) if str(row) == label]
    piece = read([job.id], Cursor(), Choice.of(Whose.ACTION, *ids))
    return [json.loads(line)["line"] for _, text in piece.chunks for line in text.splitlines()]


def server_lines(job: Job) -> list[str]:
    """The lines of the server itself, in order."""
    piece = read([job.id], Cursor(), Choice.of(Whose.SERVER))
    return [json.loads(line)["line"] for _, text in piece.chunks for line in text.splitlines()]


def beside(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
