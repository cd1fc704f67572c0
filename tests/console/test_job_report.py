"""`jobs JOB` and `logs JOB --action NAME` as an operator types them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from apps.jobs import ledger as steps
from apps.jobs.models import Job
from apps.workflow_actions import allocations, ledger
from engine.orders import Line, StepOutcome, Verdict
from engine.slurm_script import Launch
from tests.apps.jobs.builders import start, workspace
from tests.apps.workflow_actions.hands import ActionHand, reported
from tests.console.test_operator_commands import Run, run

__all__ = ["run"]
pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
slurm_schedulers: {cpu: {account: lab, worker_config: /etc/worker.yaml}}
actions: {do: {type: script, script: "true"}}
tasks:
  main:
    flow: {one: {action: do}, two: {action: do, depends_on: [one]}}
    workflow_actions:
      - {name: tidy, trigger_type: on_jobs_complete, jobs: [one], action_type: run_commands, commands: ["false"]}
      - {name: nodes, trigger_type: on_jobs_ready, jobs: [two], action_type: schedule_nodes, scheduler: cpu,
         scheduler_type: slurm}
      - {name: end, trigger_type: on_workflow_complete, action_type: run_commands, commands: ["true"]}
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Its first step is over, an action has failed, another has asked for a node."""
    job = start(workspace(tmp_path, FLOW, "shop"))
    hand = ActionHand("script", "slurm", "slurm:cpu", name="host-7")
    hand.finish(hand.take("one"))
    while (claim := hand.take_action()) is not None:
        if claim.label == "tidy":
            steps.append(claim, 1, [Line(time.time(), "stderr", "rm: no such \x1b[2Jfile")])
            reported(
                claim,
                StepOutcome(Verdict.FAILED, exit_code=3, error="Command failed with exit code: 3"),
            )
        else:
            (one,) = ledger.submissions(claim, 0, "/out", Launch(("python",), "/srv"))
            ledger.submitted(one.allocation_id, "4711")
            allocations.observed(one.allocation_id, "RUNNING", nodes="node1")
            reported(claim)
    return job


def test_a_job_is_shown_with_its_steps_and_actions(run: Run, job: Job) -> None:
    code, out, _ = run("jobs", str(job.pk)[:13])
    assert code == 0
    assert out[0] == f"{job.pk}  running  shop/main"
    assert [[*line.split()[:2], line.split()[-1]] for line in out[1:3]] == [
        ["step", "completed", "one"],
        ["step", "ready", "two"],
    ]
    assert (
        "action  failed                 tidy (on_jobs_complete, run_commands, 1 of 1 complete)"
        in out
    )
    assert any(
        line.startswith("  run   failed") and line.endswith("try 1 on host-7, exit code 3")
        for line in out
    )
    assert out.count("          Command failed with exit code: 3") == 1
    assert "  nodes active                 cpu: Slurm job 4711, RUNNING on node1" in out
    assert out[-1] == "action  waiting                end (on_workflow_complete, run_commands)"


def test_the_same_comes_as_json(run: Run, job: Job) -> None:
    (line,) = run("jobs", str(job.pk), "--json")[1]
    found = json.loads(line)
    assert (found["job_id"], found["status"], len(found["steps"])) == (str(job.pk), "running", 2)
    tidy = found["workflow_actions"][0]
    assert (tidy["name"], tidy["status"], tidy["progress"]) == ("tidy", "failed", "1 of 1 complete")
    assert (tidy["runs"][0]["exit_code"], tidy["runs"][0]["worker"]) == (3, "host-7")


def test_the_log_of_one_action(run: Run, job: Job) -> None:
    assert run("logs", str(job.pk), "--action", "tidy")[:2] == (0, ["rm: no such file"])
    assert run("logs", str(job.pk), "--action", "1")[:2] == (0, [])
    assert run("logs", str(job.pk))[1] == ["_action:tidy | rm: no such file"]
    code, _, complaint = run("logs", str(job.pk), "--action", "none")
    assert (code, "no workflow action 'none'; it has tidy, nodes, end" in complaint) == (2, True)
    assert run("logs", str(job.pk), "--action", "tidy", "--step", "one")[0] == 2
    assert run("logs", str(job.pk), "--action", "tidy", "--follow")[0] == 2


def test_following_tells_how_each_action_has_ended(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    import sys

    from console.database import Database
    from console.follower import Follower
    from console.screen import Screen

    ActionHand("script", "slurm", "slurm:cpu").live_on()
    Follower(Database(), job.pk, Screen(sys.stdout)).follow()
    out = capsys.readouterr().out.splitlines()
    failed = out.index("workflow action tidy: failed (1 of 1 complete)")
    assert out[failed + 1] == "  Command failed with exit code: 3"
    assert out.index("_action:tidy | rm: no such file") < failed
    assert "workflow action end: succeeded" in out
