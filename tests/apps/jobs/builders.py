"""Jobs out of a few words, and a worker that exists only as calls of the ledger: no process, no
message."""

from __future__ import annotations

import itertools
import textwrap
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from apps.jobs import ledger, services
from apps.jobs.models import Job, Step
from apps.workspaces.models import Workspace
from apps.workspaces.services import import_folder
from engine.orders import StepOutcome, Verdict

_numbers = itertools.count()
DONE = StepOutcome(Verdict.SUCCEEDED, exit_code=0)


def workspace(folder: Path, text: str, name: str | None = None) -> Workspace:
    """A workspace of one file, imported."""
    name = name or f"ws{next(_numbers)}"
    root = folder / name
    root.mkdir(parents=True)
    (root / "workflow.yaml").write_text(textwrap.dedent(text))
    found = import_folder(name, root)
    assert not found.has_failed, found.problems
    return found


def failed(error: str = "Exit code: 1", code: int = 1) -> StepOutcome:
    return StepOutcome(Verdict.FAILED, exit_code=code, error=error)


def output(value: Any) -> StepOutcome:
    return StepOutcome(Verdict.SUCCEEDED, exit_code=0, output=value, has_output=True)


class Hand:
    """A worker by hand: claims and finishes where the test says so."""

    def __init__(self, *tags: str, name: str = "hand") -> None:
        self.tags = tags or ("script",)
        self.id = ledger.register(name=name, tags=self.tags, slots=4, version="test")
        self.seen: list[str] = []

    def claim(self) -> ledger.Claim | None:
        found = ledger.claim(self.id, [ref.id for ref in ledger.covered(self.tags)])
        if found is not None:
            self.seen.append(found.step_name)
        return found

    def take(self, step_name: str) -> ledger.Claim:
        """Claim until this step comes; the others are given back."""
        others = []
        while (found := self.claim()) is not None:
            if found.step_name == step_name:
                break
            others.append(found)
        for other in others:
            ledger.give_back(other)
        assert found is not None, f"{step_name} is not ready"
        return found

    def start(self, claim: ledger.Claim) -> bool:
        return ledger.started(claim, input=None, masks=())

    def finish(self, claim: ledger.Claim, outcome: StepOutcome = DONE) -> ledger.Finished:
        return ledger.finish(ledger.Report(claim, outcome))

    def work(
        self, outcomes: Mapping[str, StepOutcome] | None = None, *, limit: int = 10_000
    ) -> int:
        """Claim and finish until nothing is ready. `outcomes` by step name; others succeed. Returns
        how many ran."""
        outcomes = outcomes or {}
        for count in range(limit):
            found = self.claim()
            if found is None:
                return count
            assert self.start(found)
            self.finish(found, outcomes.get(found.step_name) or outcomes.get(found.base, DONE))
        raise AssertionError("the job does not come to an end")


def start(workspace: Workspace, task: str = "main", /, **given: Any) -> Job:
    return services.start_job(workspace.name, task, given)


def statuses(job: Job) -> dict[str, str]:
    return dict(
        Step.objects.filter(job_id=job.id)
        .order_by("position", "loop_index")
        .values_list("name", "status")
    )


def fresh(job: Job) -> Job:
    return Job.objects.get(id=job.id)


def until(condition: Callable[[], Any], within_s: float = 20.0, every_s: float = 0.02) -> Any:
    """The first true answer of `condition`; fails the test after `within_s` seconds."""
    end = time.monotonic() + within_s
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < end, "the condition did not come true in time"
        time.sleep(every_s)
