"""Timeouts, reminders, the escalation, mail, and the hooks that they fire."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core import mail

from apps.accounts.models import Role, WorkspaceGrant
from apps.approvals import delegations, notices, reminders, rights
from apps.approvals.errors import NotAllowed
from apps.approvals.models import ApprovalRequest, Link, Notice, Record
from apps.approvals.transitions import Caller
from apps.conductor import services as conductor
from apps.jobs.database.sql import fetch
from apps.jobs.models import Job, Step
from apps.jobs.services import cancel_job, start_job
from apps.workspaces.rights import NO_INPUTS
from engine.errors import Conflict
from tests.apps.approvals.gates import (
    approve,
    asked,
    gate,
    operator,
    person,
    records,
    request_of,
    step_of,
    viewer,
)
from tests.apps.jobs.builders import Hand, fresh, statuses, workspace

pytestmark = pytest.mark.django_db(transaction=True)


def pass_time(job: Job, seconds: float) -> None:
    """Move the suspension of the step into the past."""
    fetch(
        "UPDATE jobs_step SET deadline_at = deadline_at - make_interval(secs => %s) WHERE job_id ="
        " %s AND status = 'suspended'",
        (seconds, job.pk),
    )
    fetch(
        "UPDATE approvals_approvalrequest SET created_at = created_at - make_interval(secs =>"
        " %(s)s), remind_at = remind_at - make_interval(secs => %(s)s) WHERE job_id = %(job)s",
        {"s": seconds, "job": job.pk},
    )


@pytest.mark.parametrize(
    ("action", "step"), [("timeout: 1h30m", ""), ("timeout: 10s", "timeout: 1h30m")]
)
def test_nobody_decides_in_time(tmp_path: Path, action: str, step: str) -> None:
    job = asked(gate(tmp_path, action, step=step))
    conductor.tick()
    assert step_of(job).status == "suspended"
    pass_time(job, 5401)
    conductor.tick()
    assert step_of(job).error == "Approval step timed out after 1h30m"
    assert fresh(job).status == "failed" and statuses(job)["after"] == "skipped"
    assert request_of(job).status == "timed_out"
    with pytest.raises(Conflict, match=r"\(current: failed\): timed out at 20"):
        approve(job, operator())
    assert records(job)[0] == ("", "time_out", "done")


def test_a_decision_after_the_deadline_is_late_before_any_sweep_came_by(tmp_path: Path) -> None:
    job = asked(gate(tmp_path, "timeout: 1h", step="continue_on_failure: true"))
    pass_time(job, 3601)
    with pytest.raises(Conflict, match="timed out at"):
        approve(job, operator())
    assert step_of(job).error == "Approval step timed out after 1h"
    assert [outcome for _, _, outcome in records(job)] == ["done", "late"]
    assert reminders.overdue_approvals() == 0
    assert Hand().work() == 1
    assert fresh(job).status == "completed"


HOOKED = """
actions:
  note: {type: script, script: "true", input: {all: {type: text}}}
  gate:
    type: approval
    message: "Deploy {{ input.version }}?"
    reminders: [1h, 3h]
    escalation: {after: 2h, groups: [bosses]}
    approvers: {groups: [ops]}
on_suspended:
  - action: note
    input: {all: "{{ hook | json_encode }}"}
tasks:
  main:
    input: {version: {type: string, default: "1.2"}}
    flow: {gate: {action: gate}}
"""


def told(job: Job) -> list[dict[str, Any]]:
    """The `hook` context of each hook job that the gate fired."""
    import json

    found = Job.objects.filter(source_type="hook", source_id=str(job.pk)).order_by(
        "created_at", "id"
    )
    return [json.loads(hook.input["all"]) for hook in found]


def test_the_hook_fires_once_for_a_suspension_with_the_documented_context(tmp_path: Path) -> None:
    made = workspace(tmp_path, HOOKED)
    anna = operator()
    job = start_job(made.name, "main", {}, user=anna)
    (context,) = told(job)
    assert context.pop("started_at").startswith("20")
    assert context == {
        "workspace": made.name,
        "task_name": "main",
        "job_id": str(job.pk),
        "step_name": "gate",
        "message": "Deploy 1.2?",
        "status": "suspended",
        "source_type": "api",
        "source_id": anna.email,
        "url": (
            f"http://127.0.0.1:8080/admin/approvals/approvalrequest/{request_of(job).pk}/change/"
        ),
    }
    for _ in range(3):
        conductor.tick()
        conductor.sweep()
        conductor.tidy()
    assert len(told(job)) == 1


def test_hooks_fire_for_each_suspension_of_a_restarted_job_and_for_child_jobs(
    tmp_path: Path,
) -> None:
    from apps.jobs.flow import restarts
    from tests.apps.approvals.gates import reject

    ops = viewer(groups=("ops",))
    job = start_job(workspace(tmp_path, HOOKED).name, "main", {})
    reject(job, ops)
    restarts.restart_failed(job.pk)
    assert [context["status"] for context in told(job)] == ["suspended", "suspended"]
    text = HOOKED.replace(
        "flow: {gate: {action: gate}}",
        "flow: {gate: {action: gate}}\n  outer: {flow: {s: {action: sub}}}",
    )
    text = text.replace("actions:\n", "actions:\n  sub: {type: task, task: main}\n")
    parent = start_job(workspace(tmp_path, text).name, "outer", {})
    assert len(told(Job.objects.get(parent_job_id=parent.pk))) == 1


def test_reminders_and_the_escalation_come_in_their_time_and_once(tmp_path: Path) -> None:
    job = start_job(workspace(tmp_path, HOOKED).name, "main", {})
    boss = viewer(groups=("bosses",))

    def statuses_told() -> list[str]:
        conductor.tick()
        conductor.tick()
        return [context["status"] for context in told(job)]

    assert statuses_told() == ["suspended"]
    pass_time(job, 3601)
    assert statuses_told() == ["suspended", "reminder"]
    with pytest.raises(NotAllowed):
        approve(job, boss)
    pass_time(job, 3601)
    assert statuses_told() == ["suspended", "reminder", "escalated"]
    assert rights.waiting_for(boss).exists()
    pass_time(job, 3601)
    assert statuses_told() == ["suspended", "reminder", "escalated", "reminder"]
    assert request_of(job).remind_at is None
    assert list(Notice.objects.order_by("id").values_list("kind", "number")) == [
        ("suspended", 0),
        ("reminder", 1),
        ("escalated", 0),
        ("reminder", 2),
    ]
    assert [
        (record.what, record.detail)
        for record in Record.objects.filter(job_id=job.pk, via="server")
    ] == [
        ("remind", "reminder 1"),
        ("escalate", "asks the group bosses as well"),
        ("remind", "reminder 2"),
    ]
    assert approve(job, boss).status == "approved"


def test_what_was_due_while_nobody_looked_is_told_once(tmp_path: Path) -> None:
    job = start_job(workspace(tmp_path, HOOKED).name, "main", {})
    pass_time(job, 4 * 3600)
    conductor.tick()
    conductor.tick()
    assert [context["status"] for context in told(job)] == ["suspended", "escalated"]


def test_a_decided_or_cancelled_request_reminds_nobody(tmp_path: Path) -> None:
    made = workspace(tmp_path, HOOKED)
    decided, cancelled = start_job(made.name, "main", {}), start_job(made.name, "main", {})
    approve(decided, viewer(groups=("ops",)))
    cancel_job(cancelled.pk, actor="x")
    for job in (decided, cancelled):
        pass_time(job, 4 * 3600)
    conductor.tick()
    assert len(told(decided)) == len(told(cancelled)) == 1


def test_an_escalation_of_an_unnamed_gate_still_asks_the_operators(tmp_path: Path) -> None:
    boss = viewer()
    job = asked(gate(tmp_path, f"escalation: {{after: 1h, users: [{boss.email}]}}"))
    pass_time(job, 3601)
    conductor.tick()
    assert rights.waiting_for(boss).exists()
    assert approve(job, operator()).status == "approved"


def test_those_who_are_asked_get_mail_with_a_link_of_their_own(
    tmp_path: Path, settings: Any
) -> None:
    settings.MAIL_IS_CONFIGURED = True
    starter, other, outsider = operator(), operator(), viewer()
    job = asked(gate(tmp_path, "separation: true\ntimeout: 2h"), starter=starter)
    person(is_superuser=True)
    assert notices.send_mail() == 1
    (message,) = mail.outbox
    assert message.to == [other.email] and "Deploy 1.2?" in message.body
    link = Link.objects.get()
    assert (
        link.user == other and link.request == request_of(job) and link.digest not in message.body
    )
    assert "/approvals/link/" in message.body and "times out at" in message.body
    assert outsider.email not in str([found.to for found in mail.outbox])
    assert notices.send_mail() == 0


def test_where_nobody_is_left_to_ask_superusers_get_the_mail(tmp_path: Path, settings: Any) -> None:
    settings.MAIL_IS_CONFIGURED = True
    root = person(is_superuser=True)
    asked(gate(tmp_path, "approvers: {users: [nobody@example.org]}"))
    notices.send_mail()
    assert [message.to for message in mail.outbox] == [[root.email]]


def test_mail_shows_no_inputs_to_those_who_may_not_see_them(tmp_path: Path, settings: Any) -> None:
    settings.MAIL_IS_CONFIGURED = True
    giver, taker = operator(), operator()
    WorkspaceGrant.objects.create(user=taker, pattern="*", role=Role.DENY, rights=["inputs"])
    job = asked(gate(tmp_path, f"approvers: {{users: [{giver.email}]}}"))
    delegations.delegate(request_of(job).pk, Caller(giver, "api"), taker.email)
    while notices.send_mail():
        pass
    bodies = {message.to[0]: message.body for message in mail.outbox}
    assert "Deploy 1.2?" not in bodies[taker.email] and "/approvals/link/" in bodies[taker.email]
    assert NO_INPUTS in bodies[taker.email]


def test_mail_that_could_not_be_sent_is_tried_again_later(tmp_path: Path, settings: Any) -> None:
    settings.MAIL_IS_CONFIGURED = True
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    operator()
    asked(gate(tmp_path))
    assert notices.send_mail() == 0 and notices.send_mail() == 0
    assert Notice.objects.get().tries == 1
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    Notice.objects.update(try_at=Notice.objects.get().created_at)
    assert notices.send_mail() == 1 and len(mail.outbox) == 1


def test_no_mail_goes_out_for_what_is_decided_nor_where_no_server_is_configured(
    tmp_path: Path, settings: Any
) -> None:
    anna = operator()
    job = asked(gate(tmp_path))
    assert notices.send_mail() == 0
    approve(job, anna)
    settings.MAIL_IS_CONFIGURED = True
    assert notices.send_mail() == 0 and not mail.outbox


def test_a_line_break_in_a_name_makes_no_header(tmp_path: Path, settings: Any) -> None:
    settings.MAIL_IS_CONFIGURED = True
    operator()
    job = asked(gate(tmp_path))
    ApprovalRequest.objects.filter(job=job).update(task_name="a\nBcc: x@example.org")
    assert notices.send_mail() == 1
    assert "\n" not in mail.outbox[0].subject and mail.outbox[0].recipients() == mail.outbox[0].to


def test_a_request_whose_step_went_on_without_it_is_closed(tmp_path: Path) -> None:
    job = asked(gate(tmp_path))
    assert reminders.orphaned_approvals() == 0
    fetch("UPDATE jobs_step SET fence = fence + 1 WHERE job_id = %s", (job.pk,))
    assert reminders.orphaned_approvals() == 1
    assert ApprovalRequest.objects.get().status == "cancelled"
    assert Step.objects.get(job=job, name="gate").status == "suspended"
