"""Who decides without the right to see inputs is told so, and whom to ask."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from apps.accounts import tokens
from apps.accounts.models import Role, Scope, User, WorkspaceGrant
from apps.api.mcp import deciding
from apps.approvals import delegations, notices, rights
from apps.approvals.transitions import Caller
from apps.jobs.models import Job
from apps.workspaces.rights import NO_INPUTS
from tests.apps.api.callers import client_of
from tests.apps.approvals.gates import approve, asked, gate, operator, person, request_of

pytestmark = pytest.mark.django_db


def blinded(user: User) -> User:
    """Without the right `inputs`."""
    WorkspaceGrant.objects.create(user=user, pattern="*", role=Role.DENY, rights=["inputs"])
    return user


@pytest.fixture
def starter() -> User:
    return operator()


@pytest.fixture
def approver() -> User:
    return blinded(operator())


@pytest.fixture
def job(tmp_path: Path, starter: User, approver: User) -> Job:
    return asked(gate(tmp_path, f"approvers: {{users: [{approver.email}]}}"), starter=starter)


def page_of(job: Job, user: User) -> str:
    browser = Client()
    browser.force_login(user)
    page = browser.get(f"/admin/approvals/approvalrequest/{request_of(job).pk}/change/")
    return page.content.decode().replace("&#x27;", "'")


def read(job: Job, user: User) -> dict[str, Any]:
    answer = client_of(user).get(f"/api/jobs/{job.pk}/steps/gate/approval")
    assert answer.status_code == 200
    return dict(answer.json())


def test_an_approver_reads_what_is_asked_and_what_they_do_not_see(
    job: Job, starter: User, approver: User, settings: Any
) -> None:
    settings.MAIL_IS_CONFIGURED = True
    said = f"{NO_INPUTS}. Ask {starter.email} or an administrator."
    text = page_of(job, approver)
    assert "Deploy 1.2?" in text and said in text and "Approve…" in text
    answer = read(job, approver)
    assert (answer["message"], answer["hidden"]) == ("Deploy 1.2?", said)
    assert notices.send_mail() == 1
    (message,) = mail.outbox
    assert "Deploy 1.2?" in message.body and said in message.body
    assert approve(job, approver).status == "approved"


def test_who_decides_in_the_place_of_another_can_ask_them(
    tmp_path: Path, starter: User, settings: Any
) -> None:
    settings.MAIL_IS_CONFIGURED = True
    giver, taker = operator(), blinded(operator())
    job = asked(gate(tmp_path, f"approvers: {{users: [{giver.email}]}}"), starter=starter)
    delegations.delegate(request_of(job).pk, Caller(giver, "api"), taker.email)
    said = f"{NO_INPUTS}. Ask {giver.email} or {starter.email} or an administrator."
    assert said in page_of(job, taker) and read(job, taker)["hidden"] == said
    while notices.send_mail():
        pass
    bodies = {message.to[0]: message.body for message in mail.outbox}
    assert said in bodies[taker.email] and bodies[taker.email].count(NO_INPUTS) == 1


def test_who_sees_inputs_is_told_nothing_of_the_kind(job: Job, starter: User) -> None:
    assert NO_INPUTS not in page_of(job, starter)
    assert read(job, starter)["hidden"] is None


def test_agents_that_decide_are_told_too(job: Job, approver: User, starter: User) -> None:
    key, _ = tokens.make_key(approver, "bot", scopes=[Scope.READ, Scope.DECIDE])
    acting = tokens.user_of_key(key, job.created_at)
    (shown,) = deciding.list_approvals(acting, {})["approvals"]
    assert shown["hidden"] == f"{NO_INPUTS}. Ask {starter.email} or an administrator."


def test_what_an_agent_of_a_job_asks_is_never_blank(job: Job) -> None:
    other = blinded(person(Role.VIEWER))
    request = request_of(job)
    request.about, request.summary = "question", "Which version of 1.2?"
    rights.veiled(other, request)
    assert "hidden from you" in request.told and "1.2" not in request.told
