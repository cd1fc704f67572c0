"""The page where people decide, as browsers use it: from the account to the decision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from apps.accounts.models import Role, User
from apps.approvals.models import ApprovalRequest, Record
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

pytestmark = pytest.mark.django_db(transaction=True)
PASSWORD = "correct-horse-7"
INBOX = "/admin/approvals/approvalrequest/"


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def page_of(job: Any, verb: str = "change") -> str:
    return f"{INBOX}{request_of(job).pk}/{verb}/"


def made_in_the_admin(email: str, role: str) -> None:
    """An account as an administrator creates it: e-mail, password and role, without any further box
    ticked."""
    root = signed_in(person(is_superuser=True))
    form = {"email": email, "password1": PASSWORD, "password2": PASSWORD}
    grants = {
        "grants-TOTAL_FORMS": 1,
        "grants-INITIAL_FORMS": 0,
        "grants-0-pattern": "*",
        "grants-0-role": role,
    }
    answer = root.post("/admin/accounts/user/add/", {**form, **grants})
    assert answer.status_code == 302, answer.content.decode()[:2000]


@pytest.mark.parametrize("role", ["viewer", "operator"])
def test_whoever_is_given_an_account_and_a_role_signs_in_finds_the_request_and_decides(
    tmp_path: Path, role: str
) -> None:
    made_in_the_admin("ann@example.org", role)
    named = "approvers: {users: [ann@example.org]}" if role == "viewer" else ""
    job = asked(gate(tmp_path, named))
    client = Client()
    assert client.get(INBOX).headers["Location"].startswith("/admin/login/")
    answer = client.post(
        f"/admin/login/?next={INBOX}", {"username": "ann@example.org", "password": PASSWORD}
    )
    assert (answer.status_code, answer.headers["Location"]) == (302, INBOX)
    inbox = client.get(INBOX).content.decode()
    assert page_of(job) in inbox and 'data-badge="how_to_reg"' in inbox
    assert "Deploy 1.2?" in client.get(page_of(job)).content.decode()
    answer = client.post(
        page_of(job, "decide"),
        {"decision": "approve", "shown": request_of(job).digest},
        follow=True,
    )
    assert "Approved: the job continues." in answer.content.decode()
    assert step_of(job).output["approved_by"] == "ann@example.org"


def test_an_account_for_programs_opens_no_page(tmp_path: Path) -> None:
    job, bot = asked(gate(tmp_path)), operator(is_staff=False)
    assert signed_in(bot).get(page_of(job)).status_code == 302
    assert signed_in(bot).post(page_of(job, "decide"), {"decision": "approve"}).status_code == 302
    assert step_of(job).status == "suspended"


@pytest.mark.long
def test_the_page_answers_as_the_api_does(tmp_path: Path) -> None:
    job = asked(gate(tmp_path))
    for user, status in ((person(), 404), (operator(pattern="x"), 404), (viewer(), 403)):
        assert (
            signed_in(user).post(page_of(job, "decide"), {"decision": "approve"}).status_code
            == status
        )
        assert (
            signed_in(user).post(page_of(job, "decide"), {"decision": "reject"}).status_code
            == status
        )
    anna = signed_in(operator())
    assert anna.get(page_of(job, "decide")).status_code == 405
    assert anna.post(page_of(job, "decide"), {"decision": "perhaps"}).status_code == 404
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(operator())
    assert strict.post(page_of(job, "decide"), {"decision": "approve"}).status_code == 403
    assert (
        step_of(job).status == "suspended"
        and not ApprovalRequest.objects.exclude(status="open").exists()
    )


def test_who_comes_late_reads_who_decided_and_an_old_picture_decides_nothing(
    tmp_path: Path,
) -> None:
    job, anna = asked(gate(tmp_path)), operator()
    late = signed_in(operator())
    answer = late.post(
        page_of(job, "decide"), {"decision": "approve", "shown": "0" * 64}, follow=True
    )
    assert "The request has changed since you saw it" in answer.content.decode()
    approve(job, anna)
    answer = late.post(page_of(job, "decide"), {"decision": "reject", "reason": "no"}, follow=True)
    assert f"approved by {anna.email} at 20" in answer.content.decode()
    assert [outcome for _, _, outcome in records(job)] == ["late", "done", "late"]
    assert list(
        Record.objects.filter(job_id=job.pk).order_by("id").values_list("via", flat=True)
    ) == ["admin", "api", "admin"]


def test_delegating_taking_back_and_withdrawing_on_the_page(tmp_path: Path) -> None:
    anna, helper = operator(), viewer()
    job = asked(gate(tmp_path, "min_approvals: 2"))
    hers = signed_in(anna)
    for verb, given, text in (
        ("delegate", {"to": "nobody@example.org"}, "nobody with the e-mail"),
        ("delegate", {"to": helper.email}, f"{helper.email} now decides in your place."),
        ("decide", {"decision": "approve"}, ""),
        ("take-back", {}, "The decision is yours again."),
        ("decide", {"decision": "approve"}, "Your approval counts; more are needed."),
        ("withdraw", {}, "Your approval has been withdrawn."),
        ("withdraw", {}, "there is nothing to withdraw"),
    ):
        answer = hers.post(page_of(job, verb), given, follow=True)
        assert answer.status_code == (200 if text else 403)
        assert text in answer.content.decode()
    assert [(what, outcome) for _, what, outcome in records(job)] == [
        ("delegate", "invalid"),
        ("delegate", "done"),
        ("approve", "refused"),
        ("take_back", "done"),
        ("approve", "counted"),
        ("withdraw", "done"),
        ("withdraw", "late"),
    ]


def test_the_list_of_decisions_shows_what_was_tried_in_ones_own_workspaces_and_changes_nothing(
    tmp_path: Path,
) -> None:
    job, anna = asked(gate(tmp_path)), operator()
    approve(job, anna)
    page = "/admin/approvals/record/"
    row = Record.objects.get(job_id=job.pk)
    mine, strangers = signed_in(viewer()), signed_in(operator(pattern="other"))
    assert anna.email in mine.get(page).content.decode()
    assert anna.email not in strangers.get(page).content.decode()
    root = signed_in(person(is_superuser=True))
    for client in (mine, root):
        assert anna.email in client.get(f"{page}?q={anna.email}&outcome=done").content.decode()
        assert anna.email not in client.get(f"{page}?outcome=late").content.decode()
        assert client.get(f"{page}add/").status_code == 403
        assert client.post(f"{page}{row.pk}/delete/", {"post": "yes"}).status_code == 403
        assert client.post(f"{page}{row.pk}/change/", {"actor": "x"}).status_code == 404
        assert client.get(f"{page}{row.pk}/change/").headers["Location"] == f"{INBOX}?job={job.pk}"
    assert strangers.get(f"{page}{row.pk}/change/").status_code == 404
    assert Record.objects.get(pk=row.pk).actor == anna.email


def test_the_side_bar_leads_nobody_where_they_may_not_go(tmp_path: Path) -> None:
    gate(tmp_path)
    for user, sees in ((viewer(), False), (operator(), False), (person(Role.ADMIN), True)):
        client = signed_in(user)
        assert ("/admin/workspaces/secret/" in client.get("/admin/").content.decode()) is sees
        assert client.get("/admin/workspaces/secret/").status_code == (200 if sees else 403)
        assert "/admin/accounts/user/" not in client.get("/admin/").content.decode()
