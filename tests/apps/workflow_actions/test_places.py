"""Commands of a job with nodes run on its nodes, and never wait for nodes that do not come."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.fleet.models import Allocation
from apps.jobs.models import Job, StepEvent
from apps.workflow_actions import ledger, sweeps
from engine.slurm_script import Launch
from tests.apps.jobs.builders import start, workspace
from tests.apps.workflow_actions.hands import ActionHand, action, actions, runs, tries

pytestmark = pytest.mark.django_db(transaction=True)

HEAD = "slurm_schedulers: {gpu: {account: lab}}\nactions: {do: {type: script, script: 'true'}}\n"
NODES = "action_type: schedule_nodes, scheduler_type: slurm, scheduler: gpu"
RUN = "action_type: run_commands, commands: [date]"
LAUNCH = Launch(("worker",), "/opt", "/etc/nodes.yaml")
STEPS = "a: {action: do}, b: {action: do, depends_on: [a]}"


def begin(folder: Path, *asks: str, steps: str = STEPS) -> Job:
    listed = "".join(f"      - {{{ask}}}\n" for ask in asks)
    text = f"{HEAD}tasks:\n  main:\n    flow: {{{steps}}}\n    workflow_actions:\n{listed}"
    return start(workspace(folder, text))


def login() -> ActionHand:
    return ActionHand("script", "slurm", name="login")


def node(job: Job) -> ActionHand:
    return ActionHand("script", "slurm:gpu", "slurm:_any", name="node")


def grant(hand: ActionHand, label: str = "ask") -> None:
    claim = hand.take_action()
    assert claim is not None and claim.label == label
    for number, one in enumerate(ledger.submissions(claim, 0, "/out", LAUNCH) or []):
        ledger.submitted(one.allocation_id, f"7{number}")
        ledger.begun(one.allocation_id, f"7{number}")
    hand.finish_action(claim)


def end_nodes(job: Job) -> None:
    Allocation.objects.filter(job_id=job.id).update(status="complete")


ASK = f"name: ask, trigger_type: on_workflow_start, {NODES}"
ASK_READY = f"name: ask, trigger_type: on_jobs_ready, jobs: [a], {NODES}"


@pytest.mark.parametrize("ask", [ASK, ASK_READY])
@pytest.mark.parametrize("is_first", [True, False])
def test_they_wait_for_the_nodes_that_come_with_the_first_steps(
    tmp_path: Path, ask: str, is_first: bool
) -> None:
    tell = f"name: tell, trigger_type: on_workflow_start, {RUN}"
    job = begin(tmp_path, *((tell, ask) if is_first else (ask, tell)))
    hand = login()
    grant(hand)
    assert hand.do_actions() == []
    assert node(job).do_actions() == ["tell"]
    assert [run.worker for run in tries(job, "tell")] == ["node"]


def test_at_the_end_of_steps_and_job_they_run_on_the_nodes_that_are_there(tmp_path: Path) -> None:
    job = begin(
        tmp_path,
        ASK,
        f"name: half, trigger_type: on_jobs_complete, jobs: [a], {RUN}",
        f"name: end, trigger_type: on_workflow_complete, {RUN}",
    )
    submitter, worker = login(), node(job)
    grant(submitter)
    worker.finish(worker.take("a"))
    assert submitter.do_actions() == [] and worker.do_actions() == ["half"]
    worker.finish(worker.take("b"))
    assert submitter.do_actions() == [] and worker.do_actions() == ["end"]


@pytest.mark.parametrize(
    ("tell", "ask"),
    [
        # it says so
        (f"name: tell, trigger_type: on_workflow_start, where: any, {RUN}", ASK),
        # the nodes come later
        (
            f"name: tell, trigger_type: on_workflow_start, {RUN}",
            f"name: ask, trigger_type: on_jobs_ready, jobs: [b], {NODES}",
        ),
        # the nodes wait for it
        (
            f"name: tell, trigger_type: on_workflow_start, {RUN}",
            f"name: ask, needs: [tell], trigger_type: on_workflow_start, {NODES}",
        ),
        (f"name: tell, trigger_type: on_workflow_start, barrier: true, {RUN}", ASK_READY),
        # it asks for nodes itself
        (f"name: tell, trigger_type: on_workflow_start, do: [{{{RUN}}}, {{{NODES}}}]", ASK_READY),
    ],
)
def test_they_run_anywhere(tmp_path: Path, tell: str, ask: str) -> None:
    begin(tmp_path, tell, ask)
    claim = login().take_action()
    assert claim is not None and claim.label == "tell"


def test_without_nodes_nothing_changes(tmp_path: Path) -> None:
    job = begin(tmp_path, f"name: tell, trigger_type: on_workflow_start, where: nodes, {RUN}")
    assert login().do_actions() == ["tell"]
    assert actions(job) == {"tell": "succeeded"}


def test_when_the_nodes_are_gone_any_worker_takes_them_and_the_job_says_so(tmp_path: Path) -> None:
    job = begin(tmp_path, ASK, f"name: tell, trigger_type: on_workflow_start, {RUN}")
    hand = login()
    grant(hand)
    sweeps.ashore_units()
    assert hand.do_actions() == []
    end_nodes(job)
    sweeps.ashore_units()
    assert hand.do_actions() == ["tell"]
    (told,) = StepEvent.objects.filter(job_id=job.id, kind="action_released")
    assert told.detail == "tell: no node is left to run it; any worker may"


def test_those_that_must_run_on_nodes_wait_for_late_ones_and_fail_without_any(
    tmp_path: Path,
) -> None:
    job = begin(
        tmp_path,
        f"name: tell, trigger_type: on_workflow_start, where: nodes, {RUN}",
        f"name: ask, trigger_type: on_jobs_ready, jobs: [b], {NODES}",
    )
    hand = login()
    sweeps.ashore_units()
    assert hand.do_actions() == [] and actions(job)["tell"] == "armed"
    hand.finish(hand.take("a"))
    grant(hand)
    end_nodes(job)
    sweeps.ashore_units()
    row = action(job, "tell")
    assert (row.status, runs(job, "tell")) == ("failed", ["failed"])
    assert row.reason == "No node is left, and none will come, to run this action (`where: nodes`)"


def test_what_each_worker_does_is_done_on_nodes_only_where_that_is_wanted(tmp_path: Path) -> None:
    job = begin(
        tmp_path,
        ASK,
        f"name: there, trigger_type: on_worker_start, where: nodes, {RUN}",
        f"name: all, trigger_type: on_worker_start, {RUN}",
        steps="a: {action: do, scheduler: gpu}, b: {action: do}",
    )
    submitter, worker = login(), node(job)
    grant(submitter)
    for hand in (submitter, worker):
        assert ledger.enter(hand.id, job.id) is not None
    assert submitter.do_actions() == ["all"]
    assert sorted(worker.do_actions()) == ["all", "there"]
    assert sorted(run.status for run in tries(job, "there")) == ["cancelled", "succeeded"]
