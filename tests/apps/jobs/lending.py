"""Two workspaces, of which one lends an action to the other, and a worker of real parts in this
process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

from apps.jobs import ledger
from apps.jobs.models import Job, Step
from apps.triggers import ledger as events
from apps.workspaces.ledger import archive, pass_for
from apps.workspaces.models import Workspace
from apps.workspaces.services import import_folder
from runners.base import Runner
from runners.host.local import LocalConfig, LocalRunner
from tests.apps.jobs.builders import Hand
from workers.attempts import Attempt
from workers.disk import WorkerDirectory
from workers.execution import Execution
from workers.pods import Pins
from workers.reporting import LogPump
from workers.trees import Scratches, Workspaces

SECRET = "owner-s3cret"
CALLERS = "caller-s3cret"
OWNER = f"""
secrets: {{ key: {SECRET} }}
actions:
  deploy:
    type: script
    source: deploy.sh
    input: {{ what: {{ type: string }} }}
  lock: {{ type: script, script: "echo key {{{{ secret.key }}}}; echo 'OUTPUT: {{\\"key\\": \\"{{{{ secret.key }}}}\\"}}'" }}
  peek: {{ type: script, script: "echo {{{{ secret.mine }}}}" }}
  listen: {{ type: script, script: "echo {{{{ first.output.x }}}}" }}
tasks:
  build: {{ input: {{ what: {{ type: string }} }}, flow: {{ work: {{ type: script, script: "echo {{{{ secret.key }}}}" }} }} }}
"""
CALLER = f"""
secrets: {{ mine: {CALLERS} }}
tasks:
  main:
    input: {{ what: {{ type: string, default: world }} }}
    flow:
      deploy: {{ action: product.ACTION, input: {{ what: "{{{{ input.what }}}}" }} }}
"""
FILE = 'echo "from the file: $STROEM_INPUT_WHAT in $STROEM_ACTION_WORKSPACE"\n'


def grant(*actions: str, to: str = "site", secrets: bool = False) -> str:
    more = ", secrets: true" if secrets else ""
    given = ", ".join(f"{action}: {{ to: [{to}]{more} }}" for action in actions)
    return f"exports: {{ actions: {{ {given} }} }}\n"


def owner(folder: Path, exports: str = "", text: str = OWNER, name: str = "product") -> Workspace:
    """The owner's workspace, read (again)."""
    root = folder / name
    root.mkdir(exist_ok=True)
    (root / "workflow.yaml").write_text(dedent(text) + exports)
    if not (root / "deploy.sh").exists():
        (root / "deploy.sh").write_text(FILE)
    found = import_folder(name, root)
    assert not found.has_failed, found.problems
    return found


def caller(folder: Path, action: str = "deploy", text: str = CALLER) -> Workspace:
    root = folder / "site"
    root.mkdir(exist_ok=True)
    (root / "workflow.yaml").write_text(dedent(text).replace("ACTION", action))
    found = import_folder("site", root)
    assert not found.has_failed, found.problems
    return found


class Worker(Hand):
    """Carries out what it claims, in this thread."""

    def __init__(self, folder: Path, pick: Callable[[str, str], Runner], *tags: str) -> None:
        super().__init__(*tags)
        self.directory = WorkerDirectory(folder / "worker", is_shared=False)
        self.pump = LogPump(ledger.append, ledger.released)
        self.execution = Execution(
            ledger,
            Workspaces(self.directory, archive),
            Scratches(self.directory),
            self.pump,
            pick,
            Pins("https://server.example", pass_for),
            events,
            stop_grace_s=1.0,
        )

    def carry_out(self) -> int:
        """Until nothing is ready."""
        count = 0
        while (claim := self.claim()) is not None:
            self.perform(claim)
            count += 1
        return count

    def perform(self, claim: ledger.Claim) -> None:
        attempt = Attempt(claim, time.monotonic())
        performed = self.execution.perform(attempt)
        assert performed.ended is not None
        for seq, lines in performed.ended.batches:
            ledger.append(claim, seq, lines)
        ledger.finish(performed.ended.report)
        self.execution.tidy(attempt, performed)


@contextmanager
def local_worker(folder: Path) -> Iterator[Worker]:
    runner = LocalRunner(LocalConfig(cache_dir=folder / "cache"))
    worker = Worker(folder, lambda *_: runner)
    try:
        yield worker
    finally:
        worker.directory.close()


def step_of(job: Job, name: str = "deploy") -> Step:
    return Step.objects.get(job_id=job.id, name=name)


def log_of(job: Job) -> str:
    from apps.jobs.models import LogChunk

    rows: list[Any] = list(LogChunk.objects.filter(job_id=job.id).values_list("lines", flat=True))
    return "\n".join(map(str, rows))
