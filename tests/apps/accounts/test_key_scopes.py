"""What an API key is good for: scopes, workspaces, rotation; service accounts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from apps.accounts import services, tokens
from apps.accounts.errors import SignInRefused, TokenRefused
from apps.accounts.key_scopes import RIGHTS
from apps.accounts.models import ApiToken, Role, Scope, User, WorkspaceGrant
from apps.accounts.people import add_service
from apps.api.mcp.answers import Answer
from apps.api.mcp.tools import Toolbox
from apps.api.sockets import Ticket, _admit, _Refused
from apps.approvals.models import ApprovalRequest, Delegation, Record
from apps.audit import services as audit
from apps.audit.services import Origin
from apps.jobs.models import Job
from apps.workspaces.models import Workspace
from apps.workspaces.rights import sight_of, workspaces_of
from engine.errors import InputError
from engine.rights import ALL_RIGHTS, NO_RIGHTS, OF_VIEWERS, Right, Rights
from tests.apps.api.callers import client_of, user
from tests.apps.approvals.gates import asked, gate, request_of
from tests.apps.jobs.builders import start, workspace

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)


def acting(owner: User, *scopes: str, workspaces: tuple[str, ...] = ()) -> User:
    """The user of a request with such a key."""
    key, _ = tokens.make_key(owner, "k", scopes=scopes, workspaces=workspaces)
    return tokens.user_of_key(key, NOW)


def by_key(owner: User, *scopes: str) -> APIClient:
    key, _ = tokens.make_key(owner, "k", scopes=scopes)
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client


def exists(*names: str) -> None:
    for name in names:
        Workspace.objects.create(name=name, source="folder", location="/x")


@pytest.mark.parametrize(
    ("scope", "rights"),
    [
        (Scope.READ, OF_VIEWERS),
        (Scope.RUN, OF_VIEWERS | {Right.RUN}),
        (Scope.DECIDE, OF_VIEWERS | {Right.APPROVE}),
        (Scope.ADMIN, ALL_RIGHTS),
    ],
)
def test_a_scope_is_the_most_that_a_key_gives(scope: Scope, rights: Rights) -> None:
    exists("shop")
    assert sight_of(acting(user(is_superuser=True), scope)).on("shop") == rights
    assert sight_of(acting(user(Role.ADMIN), scope)).on("shop") == rights
    assert sight_of(acting(user(Role.VIEWER), scope)).on("shop") == OF_VIEWERS
    assert sight_of(acting(user(), scope)).on("shop") == NO_RIGHTS


def test_patterns_narrow_rights_and_lists_alike() -> None:
    exists("data-eu", "data-us", "web")
    person = acting(user(Role.ADMIN, "*-eu"), Scope.RUN, workspaces=("data-*",))
    assert [row.name for row in workspaces_of(person)] == ["data-eu"]
    assert [sight_of(person).on(name) for name in ("data-eu", "data-us", "web")] == [
        RIGHTS[Scope.RUN], NO_RIGHTS, NO_RIGHTS,
    ]  # fmt: skip
    assert not workspaces_of(person, Right.MANAGE).exists()


def test_a_key_from_before_scopes_does_what_it_could() -> None:
    """As the migration leaves it: the database's own default."""
    owner = user(is_superuser=True)
    key, row = tokens.make_key(owner, "old", scopes=[Scope.READ])
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_apitoken SET scopes = DEFAULT, workspaces = DEFAULT")
    person = tokens.user_of_key(key, NOW)
    assert person.is_superuser and person.limits is None and person.key == row
    assert ApiToken.objects.get().scopes == ["admin"]


def test_a_key_without_scopes_is_good_for_nothing() -> None:
    key, _ = tokens.make_key(user(is_superuser=True), "k")
    ApiToken.objects.update(scopes=[])
    person = tokens.user_of_key(key, NOW)
    exists("shop")
    assert sight_of(person).on("shop") == NO_RIGHTS and not person.is_superuser
    assert not workspaces_of(person).exists()
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    assert client.get("/api/jobs").status_code == 403


def test_a_key_costs_no_more_queries_than_before() -> None:
    key, _ = tokens.make_key(user(Role.VIEWER), "k", scopes=[Scope.RUN], workspaces=["data-*"])
    tokens.user_of_key(key, NOW)
    with CaptureQueriesContext(connection) as queries:
        person = tokens.user_of_key(key, NOW)
        sight_of(person).on("data-eu")
        sight_of(person).on("data-us")
    assert len(queries) == 4  # the key with its owner, its use, the owner's grants, workspaces


@pytest.mark.parametrize(
    ("scopes", "workspaces", "field"),
    [
        ([], [], "scopes"),
        (["everything"], [], "scopes"),
        (["admin"], ["a/b"], "workspaces"),
        (["admin"], [""], "workspaces"),
        (["admin"], ["a"] * 51, "workspaces"),
    ],
)
def test_a_key_with_unknown_scopes_or_patterns_is_not_made(
    scopes: list[str], workspaces: list[str], field: str
) -> None:
    with pytest.raises(InputError) as refused:
        tokens.make_key(user(), "k", scopes=scopes, workspaces=workspaces)
    assert set(refused.value.problems) == {field}


# Rotation


def test_after_a_rotation_both_secrets_are_good_for_the_overlap() -> None:
    old, row = tokens.make_key(user(Role.VIEWER), "ci", scopes=[Scope.READ])
    new = tokens.rotate_key(row, timedelta(hours=24), NOW)
    assert new != old and new[:12] == old[:12] and len(new) == len(old)
    for key in (old, new):
        assert tokens.user_of_key(key, NOW + timedelta(hours=23)).key == row
    assert tokens.user_of_key(new, NOW + timedelta(hours=25)).key == row
    with pytest.raises(TokenRefused):
        tokens.user_of_key(old, NOW + timedelta(hours=25))
    assert ApiToken.objects.get().scopes == ["jobs:read"]


def test_a_rotation_without_overlap_ends_the_old_secret_and_a_second_one_the_first() -> None:
    first, row = tokens.make_key(user(), "ci")
    second = tokens.rotate_key(row, timedelta(hours=1), NOW)
    third = tokens.rotate_key(row, timedelta(0), NOW)
    for key in (first, second):
        with pytest.raises(TokenRefused):
            tokens.user_of_key(key, NOW)
    assert tokens.user_of_key(third, NOW).key == row
    tokens.revoke_key(row)
    with pytest.raises(TokenRefused):
        tokens.user_of_key(third, NOW)


def test_the_api_rotates_a_key_and_shows_the_secret_once() -> None:
    client = client_of(user(Role.OPERATOR))
    given = {"name": "ci", "scopes": ["jobs:run"], "workspaces": ["data-*"]}
    made = client.post("/api/auth/api-keys", given, format="json").json()
    assert (made["scopes"], made["workspaces"]) == (["jobs:run"], ["data-*"])
    path = f"/api/auth/api-keys/{made['prefix']}/rotate"
    turned = client.post(path, {"overlap_hours": 2}, format="json").json()
    assert turned["key"] != made["key"] and turned["previous_until"] is not None
    (listed,) = client.get("/api/auth/api-keys").json()
    assert listed["scopes"] == ["jobs:run"] and "key" not in listed
    for wrong in ({}, {"overlap_hours": -1}, {"overlap_hours": 10_000}):
        assert client.post(path, wrong, format="json").status_code == 400


def test_a_key_of_another_user_is_not_there() -> None:
    _, row = tokens.make_key(user(), "theirs")
    client = client_of(user())
    path = f"/api/auth/api-keys/{row.prefix}"
    assert client.delete(path).status_code == 404
    turned = client.post(f"{path}/rotate", {"overlap_hours": 1}, format="json")
    assert turned.status_code == 404


# Approvals


def test_a_key_that_may_decide_does_so_with_the_rights_of_its_owner(tmp_path: Path) -> None:
    job = asked(gate(tmp_path))
    path = f"/api/jobs/{job.pk}/steps/gate/approve"
    yes = {"approved": True}
    owner = user(Role.OPERATOR)
    for scope in (Scope.READ, Scope.RUN):
        answer = by_key(owner, scope).post(path, yes, format="json")
        assert answer.status_code == 403 and "approvals:decide" in answer.json()["error"]
    client = by_key(owner, Scope.DECIDE)
    assert client.get("/api/approvals").json()["total"] == 1
    assert client.get(f"/api/jobs/{job.pk}/logs").status_code == 403
    assert by_key(user(Role.VIEWER), Scope.DECIDE).post(path, yes, format="json").status_code == 403
    answer = client.post(path, yes, format="json")
    assert (answer.status_code, answer.json()) == (200, {"status": "approved"})
    assert Record.objects.get(outcome="done").actor == owner.email


def test_a_key_for_other_workspaces_decides_nothing_here(tmp_path: Path) -> None:
    job = asked(gate(tmp_path))
    owner = user(Role.OPERATOR)
    key, _ = tokens.make_key(owner, "k", scopes=[Scope.DECIDE], workspaces=["other"])
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    assert client.get("/api/approvals").json()["total"] == 0
    path = f"/api/jobs/{job.pk}/steps/gate/approve"
    assert client.post(path, {"approved": True}, format="json").status_code == 404


def tool(person: User, name: str, **given: object) -> Answer:
    found = Toolbox(person).begin(name, given)
    assert isinstance(found, Answer)
    return found


def test_an_agent_decides_only_with_a_key_that_names_it(tmp_path: Path) -> None:
    job = asked(gate(tmp_path))
    owner = user(Role.OPERATOR)
    given = {
        "job_id": str(job.pk), "step": "gate", "decision": "approve",
        "digest": request_of(job).digest,
    }  # fmt: skip
    for person in (acting(owner, Scope.ADMIN), acting(owner, Scope.RUN), owner):
        names = {row.name for row in Toolbox(person).list_tools()}
        assert "decide_approval" not in names and "list_approvals" not in names
        refused = tool(person, "decide_approval", **given)
        assert refused.is_error and "approvals:decide" in refused.text
    person = acting(owner, Scope.DECIDE)
    assert {row.name for row in Toolbox(person).list_tools()} == {
        "list_approvals", "decide_approval",
    }  # fmt: skip
    listed = json.loads(tool(person, "list_approvals").text)["approvals"]
    assert [row["digest"] for row in listed] == [given["digest"]]
    assert tool(person, "decide_approval", **{**given, "digest": "0" * 64}).is_error
    assert tool(person, "decide_approval", **{**given, "decision": "maybe"}).is_error
    with audit.during(Origin("mcp", "192.0.2.7", owner.email)):
        assert json.loads(tool(person, "decide_approval", **given).text) == {"status": "approved"}
    record = Record.objects.get(outcome="done")
    assert (record.via, record.address, record.actor) == ("mcp", "192.0.2.7", owner.email)


def test_the_tools_of_an_agent_are_those_of_its_scopes(tmp_path: Path) -> None:
    job = start(gate(tmp_path))
    reads = acting(user(Role.ADMIN), Scope.READ)
    names = {row.name for row in Toolbox(reads).list_tools()}
    assert "list_jobs" in names and not names & {"execute_task", "cancel_job"}
    for name, given in (
        ("cancel_job", {"job_id": str(job.pk)}),
        ("execute_task", {"workspace": job.workspace.name, "task_name": "main"}),
        ("some_task", {}),
    ):
        refused = tool(reads, name, **given)
        assert refused.is_error and "jobs:run" in refused.text


def test_a_log_is_followed_with_a_key_that_reads(tmp_path: Path) -> None:
    job = start(gate(tmp_path))
    owner = user(Role.ADMIN)
    for scope in (Scope.READ, Scope.RUN, Scope.ADMIN):
        key, _ = tokens.make_key(owner, "k", scopes=[scope])
        assert _admit(Ticket(key, str(job.pk), True)).pk == job.pk
    key, _ = tokens.make_key(owner, "k", scopes=[Scope.DECIDE])
    with pytest.raises(_Refused, match="jobs:read") as refused:
        _admit(Ticket(key, str(job.pk), True))
    assert refused.value.code == 403


# Service accounts


def test_nobody_signs_in_to_a_service_account() -> None:
    service = add_service("ci", ["ops"])
    service.set_password("correct horse battery")
    service.save()
    with pytest.raises(SignInRefused):
        services.check_sign_in(service.email, "correct horse battery", "192.0.2.1")


def test_administrators_manage_service_accounts_and_their_keys() -> None:
    client = client_of(user(is_superuser=True))
    made = client.post(
        "/api/service-accounts", {"name": "ci", "groups": ["ops"]}, format="json"
    ).json()
    assert (made["name"], made["email"], made["groups"]) == ("ci", "ci@services.invalid", ["ops"])
    again = client.post("/api/service-accounts", {"name": "ci"}, format="json")
    assert again.status_code == 409
    for name in ("", "CI", "a b", "x" * 64):
        answer = client.post("/api/service-accounts", {"name": name}, format="json")
        assert answer.status_code == 400, name
    assert [row["name"] for row in client.get("/api/service-accounts").json()["items"]] == ["ci"]
    path = "/api/service-accounts/ci/api-keys"
    given = {"name": "nightly", "scopes": ["jobs:run"], "expires_in_days": 30}
    key = client.post(path, given, format="json").json()
    WorkspaceGrant.objects.create(
        user=User.objects.get(is_service=True), pattern="*", role=Role.OPERATOR
    )
    program = APIClient()
    program.credentials(HTTP_AUTHORIZATION=f"Bearer {key['key']}")
    assert program.get("/api/auth/me").json()["email"] == "ci@services.invalid"
    assert [row["prefix"] for row in client.get(path).json()] == [key["prefix"]]
    assert client.delete("/api/service-accounts/ci").status_code == 200
    assert program.get("/api/auth/me").status_code == 401
    assert client.get(path).status_code == 404


def test_people_and_service_accounts_have_lists_of_their_own() -> None:
    root = user(is_superuser=True)
    service = add_service("ci", ())
    client = client_of(root)
    people = client.get("/api/users").json()["items"]
    assert service.email not in [row["email"] for row in people]
    assert client.get(f"/api/users/{service.pk}").status_code == 404


def test_a_key_of_a_superuser_goes_where_files_keep_rights_to_others(tmp_path: Path) -> None:
    kept = """
    actions: {go: {type: script, script: "true"}}
    tasks: {t: {access: {see: {groups: [ops]}}, flow: {s: {action: go}}}}
    """
    job = start(workspace(tmp_path, kept, "shop"), "t")
    owner = user(is_superuser=True)
    assert Right.RUN in sight_of(owner).on("shop", "t")
    person = acting(owner, Scope.RUN, workspaces=("sh*",))
    assert sight_of(person).on("shop", "t") == RIGHTS[Scope.RUN]
    assert Job.objects.filter(sight_of(person).tasks()).get() == job
    assert not sight_of(acting(owner, Scope.RUN, workspaces=("other",))).sees("shop")
    assert not sight_of(acting(user(Role.ADMIN), Scope.RUN)).on("shop", "t")


def test_an_agent_reads_of_an_approval_what_its_owner_may(tmp_path: Path) -> None:
    """Somebody to whom it was delegated, without the right to see inputs."""
    asked(gate(tmp_path), given={"version": "canary-9"})
    giver, taker = user(Role.OPERATOR), user()
    WorkspaceGrant.objects.create(
        user=taker, pattern="*", role=Role.CUSTOM, rights=["see", "approve"]
    )
    WorkspaceGrant.objects.create(user=taker, pattern="*", role=Role.DENY, rights=["inputs"])
    request = ApprovalRequest.objects.get()
    ApprovalRequest.objects.update(asks_operators=False, users=[giver.email])
    Delegation.objects.create(request=request, giver=giver, taker=taker)
    assert "canary-9" not in client_of(taker).get("/api/approvals").content.decode()
    person = acting(taker, Scope.DECIDE)
    listed = tool(person, "list_approvals").text
    assert str(request.job_id) in listed and "canary-9" not in listed
