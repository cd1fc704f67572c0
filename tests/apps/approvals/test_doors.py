"""The API and the commands: the same rules, with the documented answers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from apps.accounts.models import Role, User
from apps.approvals.models import Record
from apps.jobs import services as jobs
from apps.jobs.models import Job
from tests.apps.api.callers import client_of
from tests.apps.approvals.gates import (
    approve,
    asked,
    gate,
    operator,
    person,
    records,
    reject,
    step_of,
    viewer,
)
from tests.apps.jobs.builders import Hand, failed, fresh, workspace

pytestmark = pytest.mark.django_db(transaction=True)

FORM = "input: {window: {type: string, required: true}}"


def post(
    user: User | None, job: Job, body: Any, *, step: str = "gate", verb: str = "approve"
) -> Any:
    return client_of(user).post(f"/api/jobs/{job.pk}/steps/{step}/{verb}", body, format="json")


def test_approving_and_rejecting_by_the_api(tmp_path: Path) -> None:
    text, anna = gate(tmp_path, FORM), operator()
    job, other = asked(text), asked(text)
    answer = post(anna, job, {"approved": True, "input": {"window": "night"}})
    assert (answer.status_code, answer.json()) == (200, {"status": "approved"})
    assert step_of(job).output["input"] == {"window": "night"}
    answer = post(anna, other, {"approved": False, "rejection_reason": "no"})
    assert (answer.status_code, answer.json()) == (200, {"status": "rejected"})
    assert step_of(other).error == "no"
    row = Record.objects.filter(job_id=job.pk).get()
    assert (row.actor, row.what, row.outcome, row.via, row.address) == (
        anna.email,
        "approve",
        "done",
        "api",
        "127.0.0.1",
    )


def test_the_first_of_two_approvals_answers_suspended(tmp_path: Path) -> None:
    job = asked(gate(tmp_path, "min_approvals: 2"))
    assert post(operator(), job, {"approved": True}).json() == {"status": "suspended"}
    assert post(operator(), job, {"approved": True}).json() == {"status": "approved"}


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({}, "approved"),
        ({"approved": "perhaps"}, "approved"),
        ({"approved": True}, "input 'window' is required"),
        ({"approved": True, "input": []}, "input"),
        ({"approved": True, "input": {"window": "now", "more": 1}}, "'more' is not declared"),
        ([], ""),
    ],
)
def test_what_is_no_decision_is_refused_with_400(tmp_path: Path, body: Any, text: str) -> None:
    job = asked(gate(tmp_path, FORM))
    answer = post(operator(), job, body)
    assert answer.status_code == 400 and text in answer.json()["error"]
    assert step_of(job).status == "suspended"


def test_who_is_answered_how(tmp_path: Path) -> None:
    job = asked(gate(tmp_path))
    for user, status in (
        (None, 401),
        (person(), 404),
        (operator(pattern="x"), 404),
        (viewer(), 403),
    ):
        assert post(user, job, {"approved": True}).status_code == status
    assert [outcome for _, _, outcome in records(job)] == ["refused"] * 3
    for step, status in (("nowhere", 404), ("after", 409), ("gate[0]", 404), ("%00", 404)):
        assert post(operator(), job, {"approved": True}, step=step).status_code == status
    approve(job, operator())
    answer = post(operator(), job, {"approved": False})
    assert answer.status_code == 409 and ": approved by " in answer.json()["error"]
    assert post(viewer(), job, {"approved": True}).status_code == 403
    assert client_of(operator()).get(f"/api/jobs/{job.pk}/steps/gate/approve").status_code == 405


def test_an_instance_of_a_loop_is_named_by_its_index(tmp_path: Path) -> None:
    text = """
    actions:
      gate: {type: approval, message: "{{ each.item }}?"}
    tasks:
      main: {flow: {gate: {action: gate, for_each: [eu, us]}}}
    """
    job = jobs.start_job(workspace(tmp_path, text).name, "main", {})
    assert post(operator(), job, {"approved": True}, step="gate[1]").json() == {
        "status": "approved"
    }
    assert post(operator(), job, {"approved": True}, step="gate%5B0%5D").json() == {
        "status": "approved"
    }
    assert fresh(job).status == "completed"


def test_the_job_shows_message_and_form(tmp_path: Path) -> None:
    job = asked(gate(tmp_path, FORM))
    steps = client_of(viewer()).get(f"/api/jobs/{job.pk}").json()["steps"]
    (step,) = (step for step in steps if step["step_name"] == "gate")
    assert step["approval_message"] == "Deploy 1.2?" and step["status"] == "suspended"
    assert step["approval_fields"]["window"]["required"] is True


def test_the_inbox_and_the_history_of_a_request(tmp_path: Path) -> None:
    anna, job = operator(), asked(gate(tmp_path, "min_approvals: 2"))
    inbox = client_of(anna).get("/api/approvals").json()
    assert inbox["total"] == 1 and inbox["items"][0]["job_id"] == str(job.pk)
    assert inbox["items"][0]["message"] == "Deploy 1.2?"
    assert client_of(viewer()).get("/api/approvals").json() == {"items": [], "total": 0}
    approve(job, anna)
    assert client_of(anna).get("/api/approvals").json()["total"] == 0
    shape = client_of(viewer()).get(f"/api/jobs/{job.pk}/steps/gate/approval").json()
    assert [vote["user"] for vote in shape["votes"]] == [anna.email]
    assert [(r["actor"], r["what"], r["outcome"]) for r in shape["records"]] == [
        (anna.email, "approve", "counted")
    ]
    assert client_of(person()).get(f"/api/jobs/{job.pk}/steps/gate/approval").status_code == 404


def test_withdrawing_delegating_and_links_by_the_api(tmp_path: Path) -> None:
    anna, bert, helper = operator(), operator(), viewer()
    job = asked(gate(tmp_path, "min_approvals: 2"))
    post(anna, job, {"approved": True})
    assert post(anna, job, {}, verb="withdraw").json() == {"status": "suspended"}
    assert post(anna, job, {}, verb="withdraw").status_code == 409
    assert post(bert, job, {"to": helper.email}, verb="delegate").status_code == 200
    assert post(bert, job, {"approved": True}).status_code == 403
    assert post(helper, job, {"approved": True}).json() == {"status": "suspended"}
    assert post(bert, job, {"to": None}, verb="delegate").status_code == 409
    assert "/approvals/link/" in post(anna, job, {}, verb="link").json()["url"]
    assert post(anna, job, {"user": "nobody@example.org"}, verb="link").status_code == 400


def test_a_decision_about_another_picture_is_refused(tmp_path: Path) -> None:
    job = asked(gate(tmp_path))
    assert post(operator(), job, {"approved": True, "shown": "0" * 64}).status_code == 409
    digest = client_of(viewer()).get(f"/api/jobs/{job.pk}/steps/gate/approval").json()["digest"]
    assert post(operator(), job, {"approved": True, "shown": digest}).status_code == 200


def command(*words: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    try:
        call_command(*words, stdout=out, stderr=err)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue(), err.getvalue()
    except CommandError as error:
        return error.returncode, out.getvalue(), str(error)
    return 0, out.getvalue(), err.getvalue()


def test_approving_and_rejecting_on_the_command_line(tmp_path: Path) -> None:
    text, anna = gate(tmp_path, FORM), operator()
    job, other = asked(text), asked(text)
    code, said, _ = command(
        "approve", str(job.pk), "gate", "--as", anna.email, "--input", "window=night"
    )
    assert (code, said) == (0, "gate: approved\n")
    assert step_of(job).output["approved_by"] == anna.email
    code, said, _ = command(
        "reject", str(other.pk), "gate", "--as", anna.email.upper(), "--reason", "no"
    )
    assert (code, said) == (0, "gate: rejected\n") and step_of(other).error == "no"
    row = Record.objects.get(job_id=job.pk)
    assert (row.actor, row.via) == (anna.email, "cli") and row.address.startswith("local user ")


def test_the_command_line_knows_the_same_rules(tmp_path: Path) -> None:
    starter, anna = operator(is_superuser=True), operator()
    job = asked(gate(tmp_path, "separation: true\nmin_approvals: 2\n" + FORM), starter=starter)
    for user, code, text in (
        (starter.email, 1, "You started this job"),
        (viewer().email, 1, "You may not decide this"),
        (person().email, 2, "Job not found"),
        ("nobody@example.org", 2, "no active user"),
        (anna.email, 2, "input 'window' is required"),
    ):
        found = command("approve", str(job.pk), "gate", "--as", user)
        assert found[0] == code and text in found[2], found
    assert command("approve", str(job.pk), "gate", "--as", anna.email, "--input", "window=now")[
        :2
    ] == (0, "gate: 1 of 2 approvals\n")
    assert command("reject", str(job.pk), "gate", "--as", operator().email)[0] == 0
    code, _, error = command("approve", str(job.pk), "gate", "--as", operator().email)
    assert code == 1 and "rejected by" in error
    assert command("approve", str(job.pk), "nowhere", "--as", anna.email)[0] == 2
    with pytest.raises(CommandError, match="give --as EMAIL"):
        call_command("approve", str(job.pk), "gate")


def test_the_only_person_need_not_be_named(tmp_path: Path) -> None:
    text = gate(tmp_path, "min_approvals: 2\n")
    User.objects.all().delete()
    anna, bot = operator(), operator(is_service=True)
    job = asked(text)
    assert command("approve", str(job.pk), "gate")[:2] == (0, "gate: 1 of 2 approvals\n")
    assert Record.objects.get(job_id=job.pk).actor == anna.email != bot.email
    bert = operator()
    code, _, error = command("approve", str(job.pk), "gate")
    assert code == 2 and "give --as EMAIL" in error
    User.objects.filter(pk=bert.pk).update(is_active=False)
    assert command("reject", str(job.pk), "gate", "--reason", "no")[:2] == (0, "gate: rejected\n")
    assert step_of(job).error == "no"
    User.objects.update(is_active=False)
    assert command("approve", str(asked(text).pk), "gate")[0] == 2


def test_restarting_on_the_command_line(tmp_path: Path) -> None:
    anna, job = operator(), asked(gate(tmp_path))
    code, said, _ = command("restart", str(job.pk), "--failed")
    assert code == 1
    reject(job, anna)
    code, said, _ = command("restart", str(job.pk), "--failed", "--as", anna.email)
    assert (code, said.splitlines()[-1]) == (0, str(job.pk))
    assert step_of(job).status == "suspended"
    code, said, _ = command("restart", str(job.pk), "--as", anna.email)
    new = Job.objects.get(pk=said.splitlines()[-1])
    assert code == 0 and new.pk != job.pk and new.rerun_of_id == job.pk and new.started_by == anna
    assert command("restart", str(job.pk), "--as", viewer().email)[0] == 2
    assert command("restart", "00000000-0000-7000-8000-000000000000")[0] == 2


def test_a_failed_step_runs_again_and_what_completed_stays(tmp_path: Path) -> None:
    job = asked(gate(tmp_path))
    approve(job, operator())
    hand = Hand()
    hand.work({"after": failed()})
    assert fresh(job).status == "failed"
    assert command("restart", str(job.pk), "--failed")[0] == 0
    hand.work()
    assert fresh(job).status == "completed" and step_of(job).fence == 1


def test_admins_of_the_workspace_decide_by_the_api_as_well(tmp_path: Path) -> None:
    assert post(person(Role.ADMIN), asked(gate(tmp_path)), {"approved": True}).status_code == 200
