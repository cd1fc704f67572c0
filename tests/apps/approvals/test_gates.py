"""From the suspension to the output: what an approval step shows, stores and sets off."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from apps.approvals import services
from apps.approvals.models import ApprovalRequest
from apps.jobs import ledger
from apps.jobs.flow import restarts
from apps.jobs.models import Job, LogChunk, Step
from apps.jobs.services import cancel_job, start_job
from engine.errors import Conflict, InputError
from tests.apps.approvals.gates import (
    approve,
    asked,
    gate,
    operator,
    records,
    reject,
    request_of,
    step_of,
)
from tests.apps.jobs.builders import Hand, fresh, output, statuses, workspace

pytestmark = pytest.mark.django_db(transaction=True)

FORM = """
input:
  window: {type: string, required: true, options: [now, night]}
  count: {type: integer, default: 3}
"""


def test_the_gate_holds_the_job_until_somebody_approves(tmp_path: Path) -> None:
    job = asked(gate(tmp_path))
    step = step_of(job)
    assert fresh(job).status == "running" and step.output == {"approval_message": "Deploy 1.2?"}
    assert step.suspended_at is not None
    assert Hand().work() == 0
    anna = operator()
    assert approve(job, anna).status == "approved"
    assert Hand().work() == 1
    assert fresh(job).status == "completed"
    found = step_of(job).output
    at = datetime.fromisoformat(found.pop("approved_at"))
    assert found == {"approval_message": "Deploy 1.2?", "approved": True, "approved_by": anna.email}
    assert at == request_of(job).closed_at


def test_a_rejection_fails_the_step_with_its_reason_cut_at_4096_bytes(tmp_path: Path) -> None:
    text = gate(tmp_path)
    job = asked(text)
    assert reject(job, operator(), "not on a Friday").status == "rejected"
    assert step_of(job).error == "not on a Friday"
    assert (
        statuses(job)["after"] == "skipped" and fresh(job).error == "Step 'gate': not on a Friday"
    )
    other, silent = asked(text), asked(text)
    reject(other, operator(), "ä" * 4000)
    assert step_of(other).error == "ä" * 2048
    reject(silent, operator())
    assert step_of(silent).error == "Approval rejected"


def test_a_tolerated_rejection_lets_the_job_go_on(tmp_path: Path) -> None:
    job = asked(gate(tmp_path, step="continue_on_failure: true"))
    reject(job, operator())
    Hand().work()
    assert (
        statuses(job) == {"gate": "failed", "after": "completed"}
        and fresh(job).status == "completed"
    )


def test_the_message_sees_inputs_overlaid_by_the_steps_own_and_outputs(tmp_path: Path) -> None:
    text = """
    actions:
      work: {type: script, script: "true"}
      gate: {type: approval, message: "{{ input.a }} {{ input.b }} {{ build.output.size }}"}
    tasks:
      main:
        input: {a: {type: string}, b: {type: string}}
        flow:
          build: {action: work}
          gate: {action: gate, depends_on: [build], input: {b: "{{ input.b }}!"}}
    """
    job = start_job(workspace(tmp_path, text).name, "main", {"a": "A", "b": "B"})
    Hand().work({"build": output({"size": 7})})
    assert request_of(job).message == "A B! 7"
    assert step_of(job).input == {"b": "B!"}


def test_secret_values_never_reach_the_message_nor_the_reason(tmp_path: Path) -> None:
    text = """
    secrets: {key: "hunter2-hunter2"}
    actions:
      gate: {type: approval, message: "with {{ secret.key }} and {{ input.own }}"}
    tasks:
      main:
        input: {own: {type: string, secret: true}}
        flow: {gate: {action: gate}}
    """
    job = start_job(workspace(tmp_path, text).name, "main", {"own": "my-own-secret"})
    message = request_of(job).message
    assert "hunter2" not in message and "my-own" not in message and message.startswith("with •")
    reject(job, operator(), "hunter2-hunter2 is wrong")
    assert step_of(job).error == "•••••• is wrong" and request_of(job).reason == "•••••• is wrong"


@pytest.mark.parametrize(
    ("action", "step", "error"),
    [
        (
            "message: '{{ nothing.here }}'",
            "",
            "Failed to render approval message for step 'gate': ",
        ),
        (
            "message: fine",
            "input: {x: '{{ nothing.here }}'}",
            "Failed to render input for approval step 'gate': ",
        ),
    ],
)
def test_what_cannot_be_rendered_fails_the_step(
    tmp_path: Path, action: str, step: str, error: str
) -> None:
    text = f"""
    actions:
      gate: {{type: approval, {action}}}
    tasks:
      main:
        flow: {{gate: {{action: gate{", " + step if step else ""}}}}}
    """
    job = start_job(workspace(tmp_path, text).name, "main", {})
    assert step_of(job).status == "failed" and step_of(job).error.startswith(error)
    assert not ApprovalRequest.objects.exists()
    assert fresh(job).status == "failed"


def test_the_form_is_checked_always_and_its_values_reach_the_output(tmp_path: Path) -> None:
    job = asked(gate(tmp_path, FORM))
    for wrong in (
        None,
        {},
        {"window": "noon"},
        {"window": "now", "count": "many"},
        {"window": "now", "other": 1},
    ):
        with pytest.raises(InputError):
            approve(job, operator(), wrong)
    assert step_of(job).status == "suspended"
    approve(job, operator(), {"window": "night"})
    assert step_of(job).output["input"] == {"window": "night", "count": 3}
    assert [outcome for _, _, outcome in records(job)] == ["invalid"] * 5 + ["done"]


def test_a_rejection_needs_no_form(tmp_path: Path) -> None:
    job = asked(gate(tmp_path, FORM))
    assert reject(job, operator()).status == "rejected"


def test_secret_answers_are_hidden_from_people_and_reach_the_next_step(tmp_path: Path) -> None:
    text = """
    actions:
      work: {type: script, script: "true", input: {pin: {type: string}}}
      gate: {type: approval, message: go, input: {pin: {type: string, secret: true, required: true}}}
    tasks:
      main:
        flow:
          gate: {action: gate}
          after: {action: work, depends_on: [gate], input: {pin: "{{ gate.output.input.pin }}"}}
    """
    job = start_job(workspace(tmp_path, text).name, "main", {})
    approve(job, operator(), {"pin": "4711-0815"})
    step = step_of(job)
    assert "4711" not in str(step.output) and step.output["input"] == {"pin": "••••••"}
    assert not any("4711" in str(vote.input) for vote in request_of(job).votes.all())
    assert "4711" not in str(list(Step.objects.filter(job=job).values()))
    claim = Hand().claim()
    assert claim is not None
    material = ledger.material(claim)
    assert material.outputs["gate"]["output"]["input"] == {"pin": "4711-0815"}
    assert "4711-0815" in material.masks


def test_a_short_secret_answer_is_hidden_as_well(tmp_path: Path) -> None:
    job = asked(gate(tmp_path, "input: {pin: {type: string, secret: true, required: true}}"))
    approve(job, operator(), {"pin": "12"})
    assert step_of(job).output["input"] == {"pin": "••••••"}


def test_instances_of_a_loop_wait_each_for_its_own_decision(tmp_path: Path) -> None:
    text = """
    actions:
      gate: {type: approval, message: "{{ each.item }} at {{ each.index }}"}
    tasks:
      main:
        flow: {gate: {action: gate, for_each: [eu, us]}}
    """
    job = start_job(workspace(tmp_path, text).name, "main", {})
    assert [request_of(job, f"gate[{n}]").message for n in (0, 1)] == ["eu at 0", "us at 1"]
    approve(job, operator(), step="gate[1]")
    assert statuses(job) == {"gate": "running", "gate[0]": "suspended", "gate[1]": "completed"}
    approve(job, operator(), step="gate[0]")
    assert fresh(job).status == "completed"
    assert [item["approval_message"] for item in step_of(job).output] == ["eu at 0", "us at 1"]


def test_restarting_from_the_failed_gate_asks_anew(tmp_path: Path) -> None:
    job = asked(gate(tmp_path))
    old = request_of(job)
    reject(job, operator(), "no")
    restarts.restart_failed(job.pk, actor="x@example.org")
    new = request_of(job)
    assert new.pk != old.pk and new.fence == old.fence + 1 and new.is_open
    assert step_of(job).output == {"approval_message": "Deploy 1.2?"}
    with pytest.raises(Conflict, match="started again"):
        services.decide(old.pk, services.Caller(operator(), "admin"), approved=True)
    approve(job, operator())
    Hand().work()
    assert fresh(job).status == "completed"


def test_a_decision_about_something_else_than_was_shown_is_refused(tmp_path: Path) -> None:
    job = asked(gate(tmp_path))
    caller = services.Caller(operator(), "admin")
    with pytest.raises(Conflict, match="request has changed since"):
        services.decide(request_of(job).pk, caller, approved=True, shown="0" * 64)
    assert (
        services.decide(
            request_of(job).pk, caller, approved=True, shown=request_of(job).digest
        ).status
        == "approved"
    )


def test_cancelling_the_job_closes_the_request_in_the_same_moment(tmp_path: Path) -> None:
    job = asked(gate(tmp_path))
    cancel_job(job.pk, actor="boss@example.org", reason="changed our minds")
    found = request_of(job)
    assert (found.status, found.closed_by, found.reason) == (
        "cancelled",
        "boss@example.org",
        "changed our minds",
    )
    with pytest.raises(
        Conflict, match=r"current: cancelled\): cancelled by boss@example.org at 20"
    ):
        approve(job, operator())
    assert fresh(job).status == "cancelled"


def test_a_step_that_asks_nobody_cannot_be_decided(tmp_path: Path) -> None:
    job = asked(gate(tmp_path))
    with pytest.raises(Conflict, match=r"not an approval or agent step \(type: script\)"):
        request_of(job, "after")
    with pytest.raises(Exception, match="Step not found"):
        request_of(job, "nowhere")


def test_the_log_tells_of_the_waiting_and_of_the_decision(tmp_path: Path) -> None:
    job = asked(gate(tmp_path))
    anna = operator()
    approve(job, anna)
    text = "".join(
        LogChunk.objects.filter(job_id=job.pk).order_by("id").values_list("lines", flat=True)
    )
    assert (
        "[approval] Step 'gate' waiting for approval" in text
        and f"approved by {anna.email}" in text
    )


def test_a_gate_in_a_child_job_holds_its_parent(tmp_path: Path) -> None:
    text = """
    actions:
      gate: {type: approval, message: go on}
      sub: {type: task, task: inner}
    tasks:
      inner: {flow: {gate: {action: gate}}}
      main: {flow: {sub: {action: sub}}}
    """
    parent = start_job(workspace(tmp_path, text).name, "main", {})
    child = Job.objects.get(parent_job_id=parent.pk)
    approve(child, operator())
    assert fresh(parent).status == "completed"
