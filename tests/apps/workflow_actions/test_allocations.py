"""Allocations as rows: who waits for them, who may leave, what becomes of them."""

from __future__ import annotations

import dataclasses
import time
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from django.db.models import F
from django.db.models.functions import Now

from apps.fleet import presence
from apps.fleet.models import Allocation, Worker
from apps.jobs import services
from apps.jobs.ledger import covered
from apps.jobs.models import Job
from apps.workflow_actions import ledger
from apps.workflow_actions.expectations import expects
from apps.workflow_actions.ledger import Submission
from apps.workflow_actions.models import JobAction
from engine.slurm_script import Launch
from tests.apps.jobs.builders import failed, start, statuses, workspace
from tests.apps.workflow_actions.hands import ActionHand, actions

pytestmark = pytest.mark.django_db(transaction=True)

LAUNCH = Launch(("worker",), "/opt", "/etc/nodes.yaml")
HEAD = (
    "slurm_schedulers: {big: {account: lab}, small: {account: lab}}\nactions: {do: {type: script,"
    " script: 'true'}}\n"
)
NODES = "action_type: schedule_nodes, scheduler_type: slurm"


def flow(folder: Path, steps: str, *asks: str):
    listed = "".join(f"      - {{{ask}, {NODES}}}\n" for ask in asks)
    return workspace(
        folder, f"{HEAD}tasks:\n  main:\n    flow: {{{steps}}}\n    workflow_actions:\n{listed}"
    )


def submit(hand: ActionHand, label: str) -> list[Submission]:
    """Take the action and let Slurm grant all that it asks for."""
    claim = hand.take_action()
    assert claim is not None and claim.label == label
    found = ledger.submissions(claim, 0, "/out", LAUNCH)
    for number, one in enumerate(found):
        assert ledger.submitted(one.allocation_id, f"{label}-{number}")
    hand.finish_action(claim)
    return found


def is_needed(job: Job, scheduler: str) -> bool:
    """Whether a worker in an allocation of this scheduler would stay."""
    refs = covered(["script", f"slurm:{scheduler}", "slurm:_any"])
    return ledger.is_needed(job.id, [ref.id for ref in refs if "slurm:" in ref.key])


def node(scheduler: str) -> ActionHand:
    return ActionHand("script", f"slurm:{scheduler}", "slurm:_any")


def test_the_snapshot_is_made_once_and_kept(tmp_path):
    ws = flow(tmp_path, "a: {action: do}", "name: ask, trigger_type: on_jobs_ready, jobs: [a], scheduler: big, "
              "num_allocations: 2")  # fmt: skip
    job, hand = start(ws), ActionHand("slurm")
    claim = hand.take_action()
    first = ledger.submissions(claim, 0, "/out", LAUNCH)
    ledger.submitted(first[0].allocation_id, "7")
    again = ledger.submissions(claim, 0, "/elsewhere", Launch(("other",), "/", "/x"))
    assert [one.allocation_id for one in again] == [first[1].allocation_id]
    assert again[0].script == first[1].script and again[0].tries == 1
    assert Allocation.objects.filter(job_id=job.id).count() == 2


def test_a_worker_stays_for_what_its_scheduler_may_still_run(tmp_path):
    ws = flow(tmp_path, "a: {action: do}, b: {action: do, scheduler: big, depends_on: [a]}",
              "name: ask, trigger_type: on_jobs_ready, jobs: [a], scheduler: big")  # fmt: skip
    job = start(ws)
    submit(ActionHand("slurm"), "ask")
    assert is_needed(job, "big") and not is_needed(job, "small")
    hand = node("big")
    hand.finish(hand.take("a"))
    assert is_needed(job, "big")
    hand.finish(hand.take("b"))
    assert not is_needed(job, "big")


@pytest.mark.parametrize(
    ("second", "stays"),
    [
        ("trigger_type: on_jobs_ready, jobs: [b], scheduler: big", False),
        ("trigger_type: on_jobs_complete, jobs: [check], scheduler: big", False),
        # other nodes than `c` asks for
        ("trigger_type: on_jobs_ready, jobs: [b], scheduler: small", True),
        # too late for `b` and `c`
        ("trigger_type: on_jobs_complete, jobs: [c], scheduler: big", True),
        # it may never come
        ("trigger_type: on_jobs_ready, jobs: [b], scheduler: big, when: '{{ true }}'", True),
    ],
)
def test_a_worker_does_not_stay_for_steps_that_get_nodes_of_their_own(tmp_path, second, stays):
    #   a (nodes) --> check --> b (nodes) --> c (nodes)
    steps = (
        "a: {action: do}, check: {action: do, depends_on: [a]}, b: {action: do, scheduler: big,"
        " depends_on: [check]}, c: {action: do, scheduler: big, depends_on: [b]}"
    )
    ws = flow(tmp_path, steps, "name: first, trigger_type: on_jobs_ready, jobs: [a], scheduler: big",
              f"name: second, {second}")  # fmt: skip
    job = start(ws)
    submit(ActionHand("slurm"), "first")
    hand = node("big")
    hand.finish(hand.take("a"))
    assert is_needed(job, "big") is stays


def test_nobody_stays_for_a_job_that_is_over(tmp_path):
    ws = flow(tmp_path, "a: {action: do}, b: {action: do, depends_on: [a]}",
              "name: ask, trigger_type: on_jobs_ready, jobs: [a], scheduler: big")  # fmt: skip
    job = start(ws)
    submit(ActionHand("slurm"), "ask")
    hand = node("big")
    hand.finish(hand.take("a"), failed())
    assert statuses(job) == {"a": "failed", "b": "skipped"} and not is_needed(job, "big")


def test_nodes_count_as_coming_until_their_worker_is_there(tmp_path):
    ws = flow(tmp_path, "a: {action: do}, b: {action: do}",
              "name: one, trigger_type: on_jobs_ready, jobs: [a], scheduler: big",
              "name: two, trigger_type: on_jobs_ready, jobs: [b], scheduler: small")  # fmt: skip
    job, hand = start(ws), ActionHand("slurm")
    [big], [small] = submit(hand, "one"), submit(hand, "two")
    ledger.begun(small.allocation_id, "two-0")
    register("slurm-two-0-0", job, "small")
    assert expects("script+slurm:small", job.id, "b") is True
    # the worker of the other ones is no reason to give these up
    ledger.observed(big.allocation_id, "RUNNING")
    assert expects("script+slurm:big", job.id, "a") is True
    worker = register("slurm-one-0-0", job, "big")
    presence.retire(worker)
    Worker.objects.filter(id=worker).update(heartbeat_at=F("heartbeat_at") - timedelta(minutes=5))
    JobAction.objects.filter(job_id=job.id).update(ended_at=F("ended_at") - timedelta(minutes=5))
    assert expects("script+slurm:big", job.id, "a") is False
    ledger.observed(big.allocation_id, "PENDING")  # Slurm begins it anew
    assert expects("script+slurm:big", job.id, "a") is True
    ledger.observed(big.allocation_id, "RUNNING")  # however short the first run was
    assert expects("script+slurm:big", job.id, "a") is True


def test_a_step_that_fitted_into_no_allocation_says_so_after_they_have_ended(tmp_path):
    ws = flow(
        tmp_path,
        "a: {action: do}",
        "name: ask, trigger_type: on_jobs_ready, jobs: [a], scheduler: big",
    )
    job = start(ws)
    [one] = submit(ActionHand("slurm"), "ask")
    ledger.observed(one.allocation_id, "RUNNING")
    worker = register("slurm-ask-0-0", job, "big", num_cpus=4, ends_at=time.time() + 600)
    presence.retire(worker)
    ledger.observed(one.allocation_id, "COMPLETED")
    Worker.objects.filter(id=worker).update(heartbeat_at=F("heartbeat_at") - timedelta(minutes=5))
    later = {"ended_at": F("ended_at") - timedelta(minutes=5)}
    JobAction.objects.filter(job_id=job.id).update(**later)
    Allocation.objects.filter(job_id=job.id).update(**later)
    says = "The step asks for {}, and no worker or allocation that may run it offers more than {}"
    wide, long = (
        expects(f"script+slurm:big+need:{need}", job.id, "a") for need in ("cpus:8", "secs:3600")
    )
    assert wide == says.format("8 processors", "4 processors")
    # what was left when it was seen last
    assert long == says.format("01:00:00 of time", "00:15:00 of time")
    # it fitted, and there is nothing to say
    assert expects("script+slurm:big", job.id, "a") is False


def register(name: str, job: Job, scheduler: str, **offers: float) -> UUID:
    tags = ["script", f"slurm:{scheduler}", "slurm:_any"]
    return presence.register(
        name=name, tags=tags, slots=1, version="test", offers=offers, job_id=job.id
    )


def test_what_slurm_grants_to_a_job_that_is_over_is_the_caller_s_to_cancel(tmp_path):
    ws = flow(
        tmp_path,
        "a: {action: do}",
        "name: ask, trigger_type: on_jobs_ready, jobs: [a], scheduler: big",
    )
    job, hand = start(ws), ActionHand("slurm")
    claim = hand.take_action()
    [one] = ledger.submissions(claim, 0, "/out", LAUNCH)
    services.cancel_job(job.id, actor="me")
    hand.finish_action(claim, failed())
    assert actions(job)["ask"] in ("failed", "cancelled", "armed")
    Allocation.objects.filter(id=one.allocation_id).update(status="failed")
    assert ledger.submitted(one.allocation_id, "9") is False


def test_what_slurm_has_is_cancelled_when_the_job_is(tmp_path):
    ws = flow(
        tmp_path,
        "a: {action: do}",
        "name: ask, trigger_type: on_jobs_ready, jobs: [a], scheduler: big",
    )
    job = start(ws)
    [one] = submit(ActionHand("slurm"), "ask")
    assert [row.must_cancel for row in ledger.to_follow()] == [False]
    services.cancel_job(job.id, actor="me")
    assert [row.must_cancel for row in ledger.to_follow()] == [True]
    ledger.observed(one.allocation_id, "CANCELLED by 0")
    assert (
        Allocation.objects.get(id=one.allocation_id).status == "complete"
        and ledger.to_follow() == []
    )


@pytest.mark.parametrize(
    ("seen", "status", "error"),
    [
        (["PENDING", "RUNNING", "COMPLETED"], "complete", ""),
        (["RUNNING", "TIMEOUT"], "failed", "Slurm says TIMEOUT: TimeLimit"),
        (["RUNNING", "NODE_FAIL"], "lost", "Slurm says NODE_FAIL: TimeLimit"),
        (["RUNNING", "PENDING"], "pending", ""),  # Slurm put it into its queue again
        (["PENDING", ""], "lost", "Slurm no longer knows this allocation"),
        (
            ["RUNNING", ""],
            "lost",
            "Slurm no longer knows this allocation, and no worker started in it",
        ),
        (["COMPLETED", "RUNNING"], "complete", ""),  # an answer that came late
    ],
)
def test_an_allocation_follows_what_slurm_says(tmp_path, seen, status, error):
    ws = flow(
        tmp_path,
        "a: {action: do}",
        "name: ask, trigger_type: on_jobs_ready, jobs: [a], scheduler: big",
    )
    start(ws)
    [one] = submit(ActionHand("slurm"), "ask")
    for state in seen:
        ledger.observed(one.allocation_id, state, nodes="n1", reason="TimeLimit")
    row = Allocation.objects.get(id=one.allocation_id)
    assert (row.status, row.error) == (status, error)


@pytest.mark.parametrize(
    ("ends", "status", "error"),
    [
        (["leaves"], "complete", ""),
        (["leaves", "leaves"], "complete", ""),
        (["finds nothing to do"], "complete", ""),
        (["is lost"], "lost", ", and its worker slurm-ask-0-0 did not leave in order"),
        (["leaves", "is lost"], "lost", ", and its worker slurm-ask-0-1 did not leave in order"),
        (["is there"], "lost", ", and its worker slurm-ask-0-0 did not leave in order"),
        ([], "lost", ", and no worker started in it"),
    ],
)
def test_how_an_active_allocation_ended_that_slurm_has_forgotten_is_told_by_its_workers(
    tmp_path, ends, status, error
):
    ws = flow(
        tmp_path,
        "a: {action: do}",
        "name: ask, trigger_type: on_jobs_ready, jobs: [a], scheduler: big",
    )
    job = start(ws)
    [one] = submit(ActionHand("slurm"), "ask")
    ledger.begun(one.allocation_id, "ask-0")
    for number, end in enumerate(ends):
        worker = register(f"slurm-ask-0-{number}", job, "big")
        session = (
            None
            if end == "finds nothing to do"
            else ledger.enter(worker, job.id, one.allocation_id)
        )
        if end == "leaves":
            ledger.leave(session, "the job has ended")
            assert ledger.is_left(session)
        if end in ("leaves", "finds nothing to do"):
            presence.retire(worker)
        if end == "is lost":
            Worker.objects.filter(id=worker).update(
                heartbeat_at=F("heartbeat_at") - timedelta(minutes=5)
            )
            presence.mark_dead(30)
    ledger.observed(one.allocation_id, "")
    row = Allocation.objects.get(id=one.allocation_id)
    assert (row.status, row.error) == (
        status,
        f"Slurm no longer knows this allocation{error}" if error else "",
    )
    # A step that waits for it has the time-out from now on, and learns why nobody came.
    assert expects("script+slurm:big", job.id, "a") is True
    later = {"ended_at": F("ended_at") - timedelta(minutes=5)}
    Allocation.objects.filter(job_id=job.id).update(**later)
    JobAction.objects.filter(job_id=job.id).update(**later)
    Worker.objects.filter(job_id=job.id).update(
        heartbeat_at=F("heartbeat_at") - timedelta(minutes=5)
    )
    said = f"No nodes of 'big' could run this step. Slurm no longer knows this allocation{error}"
    assert expects("script+slurm:big", job.id, "a") == (said if error else False)


def test_what_was_lost_with_its_worker_is_lost_even_when_nobody_needs_it_any_more(tmp_path):
    ws = flow(
        tmp_path,
        "a: {action: do}",
        "name: ask, trigger_type: on_jobs_ready, jobs: [a], scheduler: big",
    )
    job = start(ws)
    [one] = submit(ActionHand("slurm"), "ask")
    ledger.begun(one.allocation_id, "ask-0")
    worker = register("slurm-ask-0-0", job, "big")
    ledger.enter(worker, job.id, one.allocation_id)
    services.cancel_job(job.id, actor="me")
    Worker.objects.filter(id=worker).update(heartbeat_at=F("heartbeat_at") - timedelta(minutes=5))
    presence.mark_dead(30)
    ledger.observed(one.allocation_id, "")
    assert Allocation.objects.get(id=one.allocation_id).status == "lost"


def test_a_worker_on_a_node_is_there_between_two_heartbeats(tmp_path, settings):
    """However short the time for steps that nobody can run is: a worker that lives and is busy is
    no missing one."""
    recovery = dataclasses.replace(
        settings.STROEM.recovery, unmatched_step_timeout_s=1.0, heartbeat_timeout_s=30.0
    )
    settings.STROEM = dataclasses.replace(settings.STROEM, recovery=recovery)
    ws = flow(
        tmp_path,
        "a: {action: do}",
        "name: ask, trigger_type: on_jobs_ready, jobs: [a], scheduler: big",
    )
    job = start(ws)
    [one] = submit(ActionHand("slurm"), "ask")
    ledger.begun(one.allocation_id, "ask-0")
    worker = register("slurm-ask-0-0", job, "big")
    JobAction.objects.filter(job_id=job.id).update(ended_at=F("ended_at") - timedelta(minutes=5))
    seen = Worker.objects.filter(id=worker)
    # it takes steps for half of the heartbeat's time-out
    for ago, expected in ((6, True), (14, True), (16, False)):
        seen.update(heartbeat_at=Now() - timedelta(seconds=ago))
        assert bool(expects("script+slurm:big", job.id, "a")) is expected
    seen.update(heartbeat_at=Now() - timedelta(seconds=6), stopped_at=Now())
    assert expects("script+slurm:big", job.id, "a") is False
