"""Does actions as a worker does them: its own code and real processes, without the worker's threads
around it."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

from workers.commands import Commands

from apps.jobs.models import Job
from apps.workflow_actions import ledger, logs
from apps.workflow_actions.ledger import ActionClaim
from apps.workflow_actions.models import ActionRun
from apps.workspaces.models import Workspace
from apps.workspaces.services import import_folder
from engine.masking import masker
from engine.orders import StepOutcome
from engine.slurm_script import Launch
from runners.guard.guard import Guard
from workers.attempts import Stop
from workers.outputs import Outputs
from workers.reporting import LogPump, Reporter

_numbers = itertools.count()


class Doer:
    """`root` holds the output directory of each job."""

    def __init__(self, folder: Path, guard: Guard) -> None:
        self.root = folder / "outputs"
        config = folder / "on-nodes.yaml"
        config.touch(0o600)
        launch = Launch(("stroem-worker",), str(folder), str(config))
        self._commands = Commands(ledger, Outputs(self.root), guard, launch, stop_grace_s=1.0)  # type: ignore[arg-type]
        self._pump = LogPump(ledger.append, lambda: None)

    def perform(self, claim: ActionClaim, stop: Stop | None = None) -> StepOutcome:
        """Do the action and report it."""
        counted: list[int] = []
        reporter = Reporter(claim, masker(claim.masks), self._pump)
        name = f"a{claim.run_id}-{claim.fence}"
        outcome = self._commands.perform(
            claim, name, stop or Stop(), reporter, lambda: counted.append(1)
        )
        for batch in reporter.close():
            assert ledger.append(claim, *batch)
        assert ledger.finish(claim, outcome, command=len(counted))
        return outcome

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
    runs = ActionRun.objects.filter(job_id=job.id).order_by("id").select_related("action")
    text = "".join(logs.of_run(job.id, run.id) for run in runs if str(run.action) == label)
    return [json.loads(line)["line"] for line in text.splitlines()]


def beside(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began
