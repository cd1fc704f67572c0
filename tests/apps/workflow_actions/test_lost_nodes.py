"""Nodes that Slurm took away: what ran there is lost at once, nodes are requested again, and what
nobody needs any more is given back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F

from apps.fleet.models import Allocation, Worker
from apps.jobs.flow.restarts import restart_failed
from apps.jobs.ledger import TagSetRef, covered, covered_actions
from apps.jobs.models import Attempt, Job, Step
from apps.workflow_actions import again, ledger, stranded
from apps.workflow_actions.expectations import expects
from apps.workflow_actions.models import JobAction
from tests.apps.jobs.builders import failed, fresh, start, statuses, workspace
from tests.apps.workflow_actions.hands import ActionHand, actions
from tests.apps.workflow_actions.test_allocations import LAUNCH, flow, submit

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.long]

ASK = "name: ask, trigger_type: on_jobs_ready, jobs: [a], scheduler: big"
RETRY = "a: {action: do, on_worker_lost: retry}"


class Node(ActionHand):
    """The worker in the allocation with this Slurm job number."""

    def __init__(self, job: Job, number: str, scheduler: str = "big") -> None:
        super().__init__("script", f"slurm:{scheduler}", "slurm:_any", name=f"slurm-{number}-0")
        Worker.objects.filter(id=self.id).update(job_id=job.id)

    def begin(self, step: str):
        claim = self.take(step)
        assert self.start(claim)
        return claim

    def fall_silent(self, seconds: float) -> None:
        earlier = F("heartbeat_at") - timedelta(seconds=seconds)
        Worker.objects.filter(id=self.id).update(heartbeat_at=earlier)


def begun(job: Job) -> tuple[Allocation, Node]:
    """The job's newest allocation, with its worker."""
    row = Allocation.objects.filter(job_id=job.id).latest("requested_at")
    ledger.begun(row.id, row.slurm_job_id)
    return row, Node(job, row.slurm_job_id)


def sets_of_nodes() -> list[int]:
    refs: tuple[TagSetRef, ...] = covered(["script", "slurm:big", "slurm:_any"])
    return [ref.id for ref in refs if "slurm:" in ref.key]


@pytest.mark.parametrize("state", ["CANCELLED by 0", "TIMEOUT", "OUT_OF_MEMORY", "FAILED"])
def test_the_steps_of_an_ended_allocation_are_lost_at_once_and_say_why(tmp_path, state):
    job = start(flow(tmp_path, "a: {action: do}", ASK))
    submit(ActionHand("slurm"), "ask")
    row, node = begun(job)
    node.begin("a")
    ledger.observed(row.id, state, reason="Why")
    assert Attempt.objects.get(job_id=job.id, worker_id=node.id).status == "lost"
    error = Step.objects.get(job_id=job.id, name="a").error
    hint = {
        "TIMEOUT": " (its walltime of 01:00:00 ended)",
        "OUT_OF_MEMORY": " (it used more memory than it had: raise `mem` of its scheduler)",
    }.get(state, "")
    assert error == f"Worker slurm-ask-0-0 was lost: Slurm says {state}: Why{hint}"
    assert Worker.objects.get(id=node.id).stopped_at is not None


@pytest.mark.parametrize("state", ["NODE_FAIL", "PENDING"])
def test_a_worker_that_may_still_live_must_also_have_been_silent(tmp_path, state):
    job = start(flow(tmp_path, "a: {action: do}", ASK))
    submit(ActionHand("slurm"), "ask")
    row, node = begun(job)
    node.begin("a")
    ledger.observed(row.id, "RUNNING")
    ledger.observed(row.id, state)
    assert statuses(job)["a"] == "running"
    node.fall_silent(11)
    assert stranded.lose_workers() == 1
    assert statuses(job)["a"] == "failed"


def test_a_step_that_came_back_gets_nodes_again(tmp_path):
    job, login = start(flow(tmp_path, RETRY, ASK)), ActionHand("slurm")
    submit(login, "ask")
    for number in range(3):
        assert again.ask() == 0  # it has nodes
        row, node = begun(job)
        claim = node.begin("a")
        ledger.observed(row.id, "CANCELLED by 0")
        if number == 2:
            break
        assert statuses(job)["a"] == "ready"
        assert expects("script+slurm:big", job.id, "a") is True
        assert again.ask() == 1 and again.ask() == 0
        wanted = login.take_action()
        [one] = ledger.submissions(wanted, 0, "/out", LAUNCH)
        [same] = ledger.submissions(wanted, 0, "/out", LAUNCH)
        assert same.allocation_id == one.allocation_id
        assert ledger.submitted(one.allocation_id, f"again{number}")
        login.finish_action(wanted)
        assert actions(job)["ask"] == "succeeded"
    assert not node.finish(claim).accepted
    assert statuses(job)["a"] == "failed" and again.ask() == 0


@pytest.mark.parametrize(
    ("step", "state", "asks"),
    [
        (RETRY, "CANCELLED by 0", True),
        (RETRY, "NODE_FAIL", True),
        (RETRY, "FAILED", False),  # the next one would fail as well
        ("a: {action: do}", "CANCELLED by 0", False),
    ],
)
def test_a_step_that_nobody_took_gets_nodes_again_if_it_may_run_twice(tmp_path, step, state, asks):
    job, login = start(flow(tmp_path, step, ASK)), ActionHand("slurm")
    [one] = submit(login, "ask")
    tries = 0
    while True:
        ledger.observed(one.allocation_id, state)
        if not again.ask():
            break
        tries += 1
        claim = login.take_action()
        [one] = ledger.submissions(claim, 0, "/out", LAUNCH)
        ledger.submitted(one.allocation_id, f"again{tries}")
        login.finish_action(claim)
    assert tries == (2 if asks else 0)
    later = {"ended_at": F("ended_at") - timedelta(minutes=5)}
    Allocation.objects.filter(job_id=job.id).update(**later)
    JobAction.objects.filter(job_id=job.id).update(**later)
    assert str(expects("script+slurm:big", job.id, "a")).startswith("No nodes of 'big' could run")


def test_a_second_request_asks_for_no_more_than_the_ready_steps_can_use(tmp_path):
    steps = ", ".join(
        f"{name}: {{action: do, scheduler: big, on_worker_lost: retry}}" for name in "abc"
    )
    ask = "name: ask, trigger_type: on_workflow_start, scheduler: big, num_allocations: 5"
    job, login = start(flow(tmp_path, steps, ask)), ActionHand("slurm")
    for one in submit(login, "ask"):
        ledger.observed(one.allocation_id, "CANCELLED by 0")
    assert again.ask() == 1
    claim = login.take_action()
    assert len(ledger.submissions(claim, 0, "/out", LAUNCH)) == 3
    assert Allocation.objects.filter(job_id=job.id).count() == 8


def test_the_queue_is_left_when_no_step_is_unclaimed(tmp_path):
    ask = "name: ask, trigger_type: on_jobs_ready, jobs: [a, b], scheduler: big, num_allocations: 3"
    job = start(flow(tmp_path, "a: {action: do}, b: {action: do}", ask))
    first, *others = submit(ActionHand("slurm"), "ask")
    ledger.begun(first.allocation_id, "ask-0")
    node = Node(job, "ask-0")
    node.begin("a")
    assert not any(one.must_cancel for one in ledger.to_follow())
    node.begin("b")
    assert {one.allocation_id: one.must_cancel for one in ledger.to_follow()} == {
        first.allocation_id: False,
        **{one.allocation_id: True for one in others},
    }


def test_a_restart_requests_nodes_only_where_steps_run_again(tmp_path):
    steps = "a: {action: do, scheduler: big}, b: {action: do, scheduler: small}"
    asks = [
        f"name: {name}, trigger_type: on_workflow_start, scheduler: {name}, rerun: always"
        for name in ("big", "small")
    ]
    job = start(flow(tmp_path, steps, *asks))
    ActionHand("slurm").do_actions()
    big, small = Node(job, "1"), Node(job, "2", "small")
    big.finish(big.take("a"))
    small.finish(small.take("b"), failed())
    restart_failed(job.id, actor="me")
    assert fresh(job).generation == 2
    assert actions(job) == {"big": "skipped", "small": "armed"}


def test_an_idle_worker_stays_for_a_step_that_may_come_back(tmp_path):
    ask = "name: ask, trigger_type: on_jobs_ready, jobs: [a], scheduler: big, num_allocations: 3"
    job = start(flow(tmp_path, RETRY, ask))
    submit(ActionHand("slurm"), "ask")
    busy, *idle = [Node(job, f"ask-{number}") for number in range(3)]
    busy.begin("a")
    stay = [ledger.is_needed(job.id, sets_of_nodes(), node.id) for node in idle]
    assert stay == [True, False]  # one step, one worker
    Step.objects.filter(job_id=job.id, name="a").update(losses=2)
    assert not ledger.is_needed(job.id, sets_of_nodes(), idle[0].id)


def test_a_worker_stays_while_an_action_waits_for_it_or_for_anybody(tmp_path):
    ws = flow(tmp_path, "a: {action: do}", ASK)
    path = tmp_path / ws.name / "workflow.yaml"
    text = path.read_text() + (
        "      - {name: end, trigger_type: on_workflow_complete, action_type: run_commands,"
        " commands: ['true']}\n"
    )
    job = start(workspace(tmp_path, text))
    submit(ActionHand("slurm"), "ask")
    _, node = begun(job)
    node.finish(node.begin("a"))
    sets = [ref.id for ref in covered_actions(node.tags)]
    assert not ledger.is_needed(job.id, sets_of_nodes(), node.id)
    assert ledger.leaves_actions(job.id, node.id, sets)
    assert node.do_actions() == ["end"]
    assert not ledger.leaves_actions(job.id, node.id, sets)


def test_a_worker_that_comes_after_the_end_visits_nobody(tmp_path):
    job = start(flow(tmp_path, "a: {action: do}", ASK))
    submit(ActionHand("slurm"), "ask")
    _, node = begun(job)
    node.finish(node.begin("a"))
    assert ledger.enter(Node(job, "late").id, job.id) is None
