"""A workflow action is claimed, renewed, given back, timed out and ended by what does so with steps."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db.models import F

from apps.jobs import bells, ledger, ports, services
from apps.jobs.ledger import ActionMaterial, Claim
from apps.jobs.models import Attempt, Job, StepEvent, Unit
from apps.jobs.upkeep.sweeps import lost_attempts, overdue_attempts, ring_ready
from engine.lifecycle import OwnerKind
from tests.apps.jobs.builders import start, workspace
from tests.apps.workflow_actions.hands import ActionHand, actions, reported, runs, tries

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
actions: {do: {type: script, script: x}}
tasks:
  main:
    flow: {a: {action: do}, b: {action: do, depends_on: [a]}}
    workflow_actions:
      - {name: begin, trigger_type: on_workflow_start, timeout: 1m, action_type: run_commands, commands: [x, y]}
      - {name: after, trigger_type: on_jobs_complete, jobs: [a], action_type: run_commands, commands: [x]}
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return start(workspace(tmp_path, FLOW))


def take(hand: ActionHand, label: str) -> Claim:
    claim = hand.take_action()
    assert claim is not None and claim.label == label
    return claim


def test_a_claim_of_an_action_says_whose_it_is(job: Job) -> None:
    claim = take(ActionHand(), "begin")
    assert (claim.owner_kind, claim.number, claim.is_started) == (OwnerKind.ACTION, 1, True)
    assert claim.log_name == "_action:begin"
    assert ledger.ended(frozenset({claim.name})) == frozenset()
    assert ledger.started(claim, input=None, masks=())
    material = ledger.material(claim)
    assert isinstance(material, ActionMaterial) and material.action_id == claim.owner_id
    assert material.do[0]["commands"] == ["x", "y"] and material.timeout_s == 60
    assert reported(claim) and ledger.ended(frozenset({claim.name})) == {claim.name}


def test_one_renewal_names_steps_and_actions_and_brings_progress_and_cancels(job: Job) -> None:
    hand = ActionHand()
    hand.finish(hand.take("a"))
    step, first, last = hand.take("b"), take(hand, "begin"), take(hand, "after")
    live = {claim.attempt_id: claim.fence for claim in (step, first, last)}
    before = dict(Attempt.objects.values_list("id", "lease_until"))
    renewal = ledger.renew(hand.id, {**live, 999_999: 1}, 1, {first.attempt_id: 2})
    assert renewal.is_known and renewal.lost == {999_999} and renewal.cancelled == frozenset()
    after = Attempt.objects.in_bulk(list(live))
    assert all(after[id].lease_until > before[id] for id in live)
    assert [after[id].progress for id in live] == [None, 2, None]
    services.cancel_job(job.id, actor="me")
    renewal = ledger.renew(hand.id, live, 1)
    assert renewal.cancelled == {step.attempt_id, first.attempt_id}, (
        "what a job's end sets off lasts"
    )
    assert tries(job, "begin")[0].command == 2


def test_an_action_given_back_is_ready_again_and_nothing_was_lost(job: Job) -> None:
    hand = ActionHand()
    ledger.give_back(take(hand, "begin"))
    unit = Unit.objects.get(status="ready")
    assert (unit.attempts, unit.losses) == (0, 0) and actions(job)["begin"] == "armed"
    assert take(hand, "begin").number == 1 and runs(job, "begin") == ["lost", "running"]


def test_an_action_past_its_time_out_is_ended_by_the_server(job: Job) -> None:
    hand = ActionHand()
    claim = take(hand, "begin")
    Attempt.objects.update(deadline_at=F("claimed_at"))
    assert overdue_attempts() == 0, "the worker's own time-out comes first"
    Attempt.objects.update(deadline_at="2020-01-01T00:00Z")
    assert overdue_attempts() == 1 and not reported(claim)
    assert actions(job)["begin"] == "failed"
    assert "Action timed out after 60s" in tries(job, "begin")[0].error
    assert ledger.renew(hand.id, {claim.attempt_id: claim.fence}, 1).lost == {claim.attempt_id}


def test_bells_ring_for_what_waits_and_again_does_no_harm(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    rung: list[dict[str, int]] = []
    monkeypatch.setattr(bells, "ring", lambda keys: rung.append(dict(keys)))
    for _ in range(2):
        ring_ready()
    assert rung == [{"script": 1, "@actions+script": 1}] * 2
    hand = ActionHand()
    assert take(hand, "begin") and hand.take_action() is None


def test_the_end_of_a_cancelled_jobs_action_is_no_loss_and_no_other_try(job: Job) -> None:
    hand = ActionHand()
    claim = take(hand, "begin")
    step = hand.take("a")
    services.cancel_job(job.id, actor="me")
    Attempt.objects.filter(id=claim.attempt_id).update(lease_until="2020-01-01T00:00Z")
    assert lost_attempts() == 1 and actions(job)["begin"] == "cancelled"
    assert hand.take_action() is None and step is not None
    kinds = StepEvent.objects.filter(job_id=job.id, step_id=None).values_list("kind", flat=True)
    assert "action_cancelled" in kinds


def test_a_kind_of_owner_that_no_room_has_registered_fails_the_check(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert ports.check_ports() == []
    monkeypatch.setattr(ports, "_owners", {})
    (wrong,) = ports.check_ports()
    assert "no handler for units of kind 'action'" in wrong.msg
