"""From the file to the effect: every trigger, each kind of action, each way to select steps, both
formats."""

from __future__ import annotations

import itertools
from uuid import UUID

import pytest

from apps.fleet.models import Allocation
from apps.jobs import ledger as steps
from apps.workflow_actions import ledger
from tests.apps.jobs.builders import fresh, start, workspace
from tests.apps.workflow_actions.doing import Sbatch, specification
from tests.apps.workflow_actions.hands import ActionHand, actions

pytestmark = pytest.mark.django_db(transaction=True)

SELECTIONS = {
    "names": "jobs: [train_1, train_2]",
    "patterns": 'job_name_regexes: ["train_[0-9]"]',
    "both": 'jobs: [train_1], job_name_regexes: ["train_2"]',
}
DOINGS = {
    "run_commands": (
        'action_type: run_commands, commands: ["pwd > where", "env > told", "echo done"]'
    ),
    "schedule_nodes": (
        "action_type: schedule_nodes, scheduler: gpu, scheduler_type: slurm, num_allocations: 2"
    ),
}
OURS = """
actions: {{work: {{type: script, script: "true"}}}}
slurm_schedulers: {{gpu: {{account: lab, partition: a100}}}}
tasks:
  main:
    flow:
      a: {{action: work}}
      train_1: {{action: work, depends_on: [a]}}
      train_2: {{action: work, depends_on: [a]}}
      z: {{action: work, depends_on: [train_1, train_2]}}
    workflow_actions:
      - {{name: it, {action}}}
"""
TORC = """
name: main
jobs:
  - {{name: a, command: "true"}}
  - {{name: "train_{{i}}", command: "true", depends_on: [a], parameters: {{i: "1:2"}}}}
  - {{name: z, command: "true", depends_on_regexes: ["^train_"]}}
slurm_schedulers: [{{name: gpu, account: lab, partition: a100}}]
actions:
  - {{name: it, {action}}}
"""
JOB_TRIGGERS = ("on_jobs_ready", "on_jobs_complete")
OTHERS = ("on_workflow_start", "on_workflow_complete", "on_worker_start", "on_worker_complete")
CASES = [
    *itertools.product(("ours", "torc"), JOB_TRIGGERS, DOINGS, SELECTIONS),
    *itertools.product(("ours", "torc"), OTHERS, DOINGS, ("",)),
]
SLURM_HAND = ("script", "slurm", "slurm:gpu", "slurm:_any")


class Run:
    """A job with one action `it`, and a worker by hand."""

    def __init__(self, tmp_path, notation: str, action: str) -> None:
        if notation == "ours":
            self.job = start(workspace(tmp_path, OURS.format(action=action)))
        else:
            self.job = start(specification(tmp_path, TORC.format(action=action)))
        self.hand = ActionHand(*SLURM_HAND)
        self.session: int | None = None

    def reach(self, trigger: str) -> None:
        """Everything up to the moment of the trigger; the action must not be there before it."""
        if trigger == "on_workflow_start":
            return
        assert self.hand.take_action() is None
        match trigger:
            case "on_jobs_ready":
                self.hand.finish(self.hand.take("a"))
            case "on_jobs_complete":
                for step in ("a", "train_2", "train_1"):
                    assert self.hand.take_action() is None
                    self.hand.finish(self.hand.take(step))
            case "on_workflow_complete":
                for step in ("a", "train_2", "train_1", "z"):
                    assert self.hand.take_action() is None
                    self.hand.finish(self.hand.take(step))
            case "on_worker_start":
                self.session = ledger.enter(self.hand.id, self.job.id)
                assert self.session and not ledger.is_entered(self.session)
            case "on_worker_complete":
                self.session = ledger.enter(self.hand.id, self.job.id)
                assert self.session and ledger.is_entered(self.session)
                assert self.hand.take_action() is None
                ledger.leave(self.session, "the worker ends")
                assert not ledger.is_left(self.session)


def text_of(trigger: str, kind: str, selection: str) -> str:
    more = f", {SELECTIONS[selection]}" if selection else ""
    return f"trigger_type: {trigger}, {DOINGS[kind]}{more}"


@pytest.mark.sample(8)
@pytest.mark.parametrize(("notation", "trigger", "kind", "selection"), CASES)
def test_an_action_does_what_its_file_says_at_its_moment_and_once(
    tmp_path, doer, sbatch, notation, trigger, kind, selection
):
    run = Run(tmp_path, notation, text_of(trigger, kind, selection))
    run.reach(trigger)
    claim = run.hand.take_action()
    if (trigger, kind) == ("on_workflow_complete", "schedule_nodes"):
        assert claim is None and actions(run.job) == {"it": "skipped"} and sbatch.asked == []
        return
    assert claim is not None and claim.label == "it"
    outcome = doer.perform(claim)
    assert outcome.exit_code == 0, outcome
    check(run, kind, trigger, steps.material(claim).output_dir or str(doer.output(run.job)), sbatch)
    if run.session is not None:
        assert (
            ledger.is_left(run.session)
            if trigger == "on_worker_complete"
            else ledger.is_entered(run.session)
        )
    assert run.hand.take_action() is None
    run.hand.work()
    assert fresh(run.job).status == "completed"
    if run.session is not None:
        ledger.leave(run.session, "the job has ended")
        assert ledger.is_left(run.session)
    assert run.hand.take_action() is None and actions(run.job) == {"it": "succeeded"}


def check(run: Run, kind: str, trigger: str, output_dir: str, sbatch: Sbatch) -> None:
    if kind == "run_commands":
        with open(f"{output_dir}/where") as where, open(f"{output_dir}/told") as told:
            assert where.read() == output_dir + "\n"
            names = dict(
                line.split("=", 1)
                for line in told.read().splitlines()
                if line.startswith("STROEM_")
            )
        assert UUID(names["STROEM_JOB_ID"]) == run.job.id and names["STROEM_TRIGGER"] == trigger
        assert names["STROEM_ACTION"] == "it" and names["STROEM_OUTPUT_DIR"] == output_dir
        return
    rows = Allocation.objects.filter(job_id=run.job.id).order_by("number")
    found = [(row.status, row.slurm_job_id, row.scheduler) for row in rows]
    assert found == [("pending", "1001", "gpu"), ("pending", "1002", "gpu")]
    for script, row in zip(sbatch.asked, rows, strict=True):
        assert script == row.script and "--account=lab" in script and "--partition=a100" in script
