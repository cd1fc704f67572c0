"""Requests for nodes that come when the job is over, or to a worker that cannot ask for any."""

from __future__ import annotations

from pathlib import Path

import pytest

from apps.fleet.models import Allocation
from apps.jobs import services
from apps.workflow_actions import ledger, sweeps
from apps.workflow_actions.models import JobAction
from engine.workflow_actions import NO_NODES
from tests.apps.jobs.builders import failed, fresh, start, workspace
from tests.apps.workflow_actions.doing import log_of, specification
from tests.apps.workflow_actions.hands import ActionHand, action, actions, runs

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]

HEAD = "slurm_schedulers: {gpu: {account: lab}}\nactions: {do: {type: script, script: 'true'}}\n"
NODES = "action_type: schedule_nodes, scheduler_type: slurm, scheduler: gpu"


def flow(folder: Path, asks: str, steps: str = "a: {action: do}"):
    text = (
        f"tasks:\n  main:\n    flow: {{{steps}}}\n    workflow_actions:\n      - {{name: it,"
        f" {asks}}}\n"
    )
    return workspace(folder, HEAD + text)


TORC = """
name: main
jobs: [{name: a, command: "true"}]
slurm_schedulers: [{name: gpu, account: lab}]
actions:
  - {name: it, trigger_type: on_workflow_complete, action_type: schedule_nodes, scheduler: gpu, scheduler_type: slurm}
"""


@pytest.mark.parametrize("notation", ["ours", "torc"])
@pytest.mark.parametrize("end", ["completed", "failed"])
def test_nodes_at_the_end_of_a_job_are_not_asked_for_and_nobody_tries_it_again(
    tmp_path, notation, end
):
    if notation == "ours":
        job = start(flow(tmp_path, f"trigger_type: on_workflow_complete, {NODES}"))
    else:
        job = start(specification(tmp_path, TORC))
    hand = ActionHand("script", "slurm", "slurm:_any")
    hand.work({"a": failed()} if end == "failed" else {})
    assert fresh(job).status == end
    row = action(job, "it")
    assert (row.status, row.reason, row.outcome) == ("skipped", NO_NODES, end)
    assert runs(job, "it") == [] and hand.take_action() is None


def test_when_the_last_steps_have_ended_no_nodes_are_asked_for(tmp_path):
    job = start(
        flow(
            tmp_path,
            f"trigger_type: on_jobs_complete, jobs: [a, b], {NODES}",
            "a: {action: do}, b: {action: do}",
        )
    )
    hand = ActionHand("script", "slurm")
    hand.work()
    row = action(job, "it")
    assert row.status in ("skipped", "cancelled") and row.reason == NO_NODES
    assert hand.take_action() is None and not Allocation.objects.filter(job_id=job.id).exists()


def test_a_request_that_nobody_has_taken_ends_with_its_job(tmp_path):
    job = start(flow(tmp_path, f"trigger_type: on_workflow_start, {NODES}"))
    assert actions(job) == {"it": "armed"}
    ActionHand("script").work()
    row = action(job, "it")
    assert (row.status, row.reason) == ("cancelled", NO_NODES) and runs(job, "it") == ["cancelled"]
    sweeps.unsettled_actions()
    assert JobAction.objects.get(id=row.id).is_settled


def test_a_request_in_hand_when_its_job_ends_is_called_off_once(tmp_path, doer, sbatch):
    job = start(flow(tmp_path, f"trigger_type: on_workflow_start, {NODES}"))
    hand = ActionHand("script", "slurm")
    claim = hand.take_action()
    hand.work()
    assert doer.perform(claim).error == NO_NODES
    row = action(job, "it")
    assert (row.status, row.reason) == ("cancelled", NO_NODES) and runs(job, "it") == ["cancelled"]
    assert sbatch.asked == [] and log_of(job, "it") == [NO_NODES]


def test_commands_around_a_needless_request_are_done(tmp_path, doer, sbatch):
    one, two = (
        f"{{action_type: run_commands, commands: [echo {word}]}}" for word in ("one", "two")
    )
    job = start(
        flow(tmp_path, f"trigger_type: on_workflow_complete, do: [{one}, {{{NODES}}}, {two}]")
    )
    hand = ActionHand("script", "slurm")
    hand.work()
    doer.perform(hand.take_action())
    assert actions(job) == {"it": "succeeded"} and sbatch.asked == []
    assert log_of(job, "it") == ["$ echo one", "one", NO_NODES, "$ echo two", "two"]


@pytest.mark.parametrize("persistent", ["true", "false"])
def test_what_a_worker_on_a_node_cannot_ask_for_another_one_asks(
    tmp_path, doer, sbatch, persistent
):
    job = start(flow(tmp_path, f"trigger_type: on_worker_start, persistent: {persistent}, {NODES}"))
    node, login = (
        ActionHand("script", "slurm:gpu", "slurm:_any", name="node"),
        ActionHand("slurm", name="login"),
    )
    session = ledger.enter(node.id, job.id)
    assert node.take_action() is None
    assert ledger.is_entered(session) is (persistent == "false")
    doer.perform(login.take_action())
    assert ledger.is_entered(session) and len(sbatch.asked) == 1
    node.work()
    assert fresh(job).status == "completed"
    ledger.leave(session, "the job has ended")
    assert ledger.is_left(session) and actions(job) == {"it": "succeeded"}


def test_nodes_that_a_leaving_worker_wants_are_not_asked_for_when_the_job_is_over(tmp_path):
    job = start(flow(tmp_path, f"trigger_type: on_worker_complete, {NODES}"))
    hand = ActionHand("script", "slurm")
    session = ledger.enter(hand.id, job.id)
    hand.work()
    ledger.leave(session, "the job has ended")
    assert hand.take_action() is None
    assert (
        ledger.is_left(session)
        and runs(job, "it") == ["cancelled"]
        and actions(job) == {"it": "cancelled"}
    )


@pytest.mark.parametrize("persistent", ["true", "false"])
def test_a_worker_that_runs_no_commands_does_not_wait_for_them(tmp_path, persistent):
    commands = "action_type: run_commands, commands: ['true']"
    job = start(
        flow(tmp_path, f"trigger_type: on_worker_start, persistent: {persistent}, {commands}")
    )
    docker, script = ActionHand("docker", name="docker"), ActionHand("script", name="script")
    session = ledger.enter(docker.id, job.id)
    assert ledger.is_entered(session) and docker.take_action() is None
    other = ledger.enter(script.id, job.id)
    assert (
        not ledger.is_entered(other) and script.do_actions() == ["it"] and ledger.is_entered(other)
    )
    script.work()
    for found in (session, other):
        ledger.leave(found, "the job has ended")
        assert ledger.is_left(found)
    assert actions(job) == {"it": "succeeded"}
    assert runs(job, "it") == (
        ["cancelled", "succeeded"] if persistent == "true" else ["succeeded"]
    )


def test_an_action_that_another_worker_does_for_a_session_that_is_gone_comes_to_its_end(
    tmp_path, doer, sbatch
):
    job = start(flow(tmp_path, f"trigger_type: on_worker_start, persistent: false, {NODES}"))
    node, login = (
        ActionHand("script", "slurm:gpu", "slurm:_any", name="node"),
        ActionHand("slurm", name="login"),
    )
    session = ledger.enter(node.id, job.id)
    claim = login.take_action()
    services.cancel_job(job.id, actor="me")
    ledger.leave(session, "the job has ended")
    assert ledger.is_left(session) and actions(job)["it"] == "running"
    doer.perform(claim)
    assert actions(job)["it"] == "cancelled" and sbatch.asked == []
