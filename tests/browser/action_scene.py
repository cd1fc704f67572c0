"""A job with workflow actions of every kind, which continues on command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from apps.jobs.models import Job
from apps.workflow_actions import allocations, ledger
from engine.slurm_script import Launch
from tests.apps.jobs.builders import until
from tests.apps.workflow_actions.hands import ActionHand, reported
from tests.browser.stage import FILES, Stage


@dataclass(frozen=True, slots=True)
class Scene:
    """A job whose step `south` and action `tidy` end once a file is in their output directory."""

    job: Job
    output: Path

    def let_south_end(self) -> None:
        self._touch("south")

    def let_tidy_end(self) -> None:
        self._touch("tidy")

    def _touch(self, name: str) -> None:
        until(self.output.exists, within_s=60)
        (self.output / name).touch()

    def ask_for_nodes(self) -> None:
        """Two allocations: one runs, one waits in Slurm's queue."""
        claim = until(ActionHand("slurm", name="login-1").take_action, within_s=60)
        one, two = ledger.submissions(claim, 0, "/out", Launch(("python",), "/srv"))
        ledger.submitted(one.allocation_id, "4711")
        ledger.submitted(two.allocation_id, "4712")
        reported(claim)
        allocations.observed(one.allocation_id, "RUNNING", nodes="node[1-2]")

    def do_the_last_step(self) -> None:
        hand = ActionHand("script", "slurm:cpu")
        until(lambda: hand.work() > 0, within_s=60)


def start(stage: Stage, task: str) -> Job:
    """Start a task of the workspace `stages`, which is imported on first use."""
    if not stage.has("stages"):
        stage.workspace("stages", (FILES / "actions.yaml").read_text())
    return stage.start(task, None, "stages")


def begin(stage: Stage) -> Scene:
    """Start such a job."""
    job = start(stage, "stages")
    return Scene(job, stage.folder / "stage" / "output" / str(job.pk))
