"""Every route, method and role, on own, foreign and unknown objects."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.db import transaction
from django.urls import get_resolver
from rest_framework.test import APIClient

from apps.accounts import tokens
from apps.accounts.models import Role, Scope, User, WorkspaceGrant
from apps.accounts.people import add_service
from apps.api import urls
from apps.artifacts.state.keeping import Writer
from apps.audit.models import Entry
from apps.jobs.models import Job
from apps.subscriptions.models import Delivery, Subscription
from apps.subscriptions.services import ping
from apps.workspaces import connections
from apps.workspaces.models import Secret
from apps.workspaces.secrets import store_secret
from engine.lifecycle import DeliveryStatus
from engine.state import Change
from tests.apps.api.callers import PASSWORD, caller, client_of, user
from tests.apps.api.key_table import (
    FOR_ADMINS,
    FOR_BOTH,
    FOR_DECIDING,
    FOR_RUNNING,
    NO_KEY,
    NOT_NOTED,
    NOTED,
    opened_by,
)
from tests.apps.api.shared import _django_db_helper, shared_rows  # noqa: F401  (fixtures)
from tests.apps.artifacts.builders import shelve
from tests.apps.artifacts.remembering import remember
from tests.apps.jobs.builders import Hand, start, workspace
from tests.apps.subscriptions.receiver import subscribe

pytestmark = pytest.mark.django_db

FLOW = """
actions:
  work: {type: script, script: "true"}
  ask: {type: approval, message: "Go on?"}
  probe: {type: script, script: "true", input: {to: {type: db}}}
connection_types: {db: {check: probe, password: {type: string, secret: true}}}
tasks:
  main:
    flow: {one: {action: work}, gate: {action: ask}}
    workflow_actions: [{trigger_type: on_workflow_complete, action_type: run_commands, commands: ["true"]}]
triggers: {nightly: {type: scheduler, cron: "0 0 * * *", task: main}}
"""
EVERYBODY, PEOPLE, SUPERUSERS, ADMINS = "everybody", "people", "superusers", "admins"

# (method, route): who may call it. A role: 404 below viewer, 403 between viewer and the role; 403
# for every role where only superusers may, or, of what belongs to no workspace, admins.
TABLE: dict[tuple[str, str], Any] = {
    ("get", "healthz"): EVERYBODY,
    ("get", "api/config"): EVERYBODY,
    ("get", "api/docs"): EVERYBODY,  # who has not signed in is led to the sign-in page
    ("get", "api/schema/workflow.json"): EVERYBODY,
    ("post", "api/auth/login"): EVERYBODY,
    ("post", "api/auth/refresh"): EVERYBODY,
    ("post", "api/auth/logout"): EVERYBODY,
    ("post", "api/auth/device"): EVERYBODY,
    ("post", "api/auth/device/token"): EVERYBODY,
    ("get", "healthz/detail"): ADMINS,
    ("get", "metrics"): ADMINS,
    ("get", "api/users"): ADMINS,
    ("post", "api/users"): ADMINS,
    ("get", "api/users/<str:user>"): ADMINS,
    ("put", "api/users/<str:user>/admin"): ADMINS,
    ("get", "api/users/<str:user>/groups"): ADMINS,
    ("put", "api/users/<str:user>/groups"): ADMINS,
    ("get", "api/groups"): ADMINS,
    ("get", "api/schema"): PEOPLE,
    ("get", "api/auth/me"): PEOPLE,
    ("get", "api/auth/agents"): PEOPLE,
    ("delete", "api/auth/agents/<str:agent>"): PEOPLE,
    ("post", "api/auth/api-keys/<str:prefix>/rotate"): PEOPLE,
    ("get", "api/audit"): ADMINS,
    ("get", "api/audit/export"): ADMINS,
    ("get", "api/service-accounts"): ADMINS,
    ("post", "api/service-accounts"): ADMINS,
    ("delete", "api/service-accounts/<str:service>"): ADMINS,
    ("get", "api/service-accounts/<str:service>/api-keys"): ADMINS,
    ("post", "api/service-accounts/<str:service>/api-keys"): ADMINS,
    ("delete", "api/service-accounts/<str:service>/api-keys/<str:prefix>"): ADMINS,
    ("post", "api/service-accounts/<str:service>/api-keys/<str:prefix>/rotate"): ADMINS,
    ("get", "api/auth/api-keys"): PEOPLE,
    ("post", "api/auth/api-keys"): PEOPLE,
    ("delete", "api/auth/api-keys/<str:prefix>"): PEOPLE,
    ("get", "api/workspaces"): PEOPLE,
    ("get", "api/triggers"): PEOPLE,
    ("get", "api/tasks"): PEOPLE,
    ("get", "api/jobs"): PEOPLE,
    ("get", "api/stats"): PEOPLE,
    ("get", "api/agents/costs"): PEOPLE,
    ("get", "api/workers"): PEOPLE,
    ("get", "api/workers/<str:worker>"): PEOPLE,
    ("delete", "api/workspaces/<str:workspace>"): SUPERUSERS,
    ("post", "api/workspaces/<str:workspace>/refresh"): Role.ADMIN,
    ("get", "api/workspaces/<str:workspace>/libraries"): Role.VIEWER,
    ("post", "api/workspaces/<str:workspace>/libraries/<str:name>/refresh"): Role.ADMIN,
    ("get", "api/workspaces/<str:workspace>/secrets"): Role.ADMIN,
    ("put", "api/workspaces/<str:workspace>/secrets/<str:name>"): Role.ADMIN,
    ("delete", "api/workspaces/<str:workspace>/secrets/<str:name>"): Role.ADMIN,
    ("get", "api/workspaces/<str:workspace>/subscriptions"): Role.ADMIN,
    ("post", "api/workspaces/<str:workspace>/subscriptions"): Role.ADMIN,
    ("get", "api/workspaces/<str:workspace>/subscriptions/<str:subscription>"): Role.ADMIN,
    ("put", "api/workspaces/<str:workspace>/subscriptions/<str:subscription>"): Role.ADMIN,
    ("delete", "api/workspaces/<str:workspace>/subscriptions/<str:subscription>"): Role.ADMIN,
    ("post", "api/workspaces/<str:workspace>/subscriptions/<str:subscription>/rotate"): Role.ADMIN,
    ("post", "api/workspaces/<str:workspace>/subscriptions/<str:subscription>/ping"): Role.ADMIN,
    (
        "get",
        "api/workspaces/<str:workspace>/subscriptions/<str:subscription>/deliveries",
    ): Role.ADMIN,
    (
        "post",
        "api/workspaces/<str:workspace>/subscriptions/<str:subscription>/deliveries/<str:delivery>/send-again",
    ): Role.ADMIN,
    ("get", "api/workspaces/<str:workspace>/triggers"): Role.VIEWER,
    ("get", "api/workspaces/<str:workspace>/triggers/<str:trigger>"): Role.VIEWER,
    ("post", "api/workspaces/<str:workspace>/triggers/<str:trigger>/pause"): Role.OPERATOR,
    ("post", "api/workspaces/<str:workspace>/triggers/<str:trigger>/resume"): Role.OPERATOR,
    ("post", "api/workspaces/<str:workspace>/triggers/<str:trigger>/fire"): Role.OPERATOR,
    (
        "post",
        "api/workspaces/<str:workspace>/triggers/<str:trigger>/dead-letters/<str:letter>/send-again",
    ): Role.OPERATOR,
    (
        "post",
        "api/workspaces/<str:workspace>/triggers/<str:trigger>/dead-letters/<str:letter>/discard",
    ): Role.OPERATOR,
    **{
        (method, f"api/workspaces/<str:workspace>/{owner}state{rest}"): role
        for owner, writer in (("", Role.ADMIN), ("tasks/<str:task>/", Role.OPERATOR))
        for method, rest, role in (
            ("get", "", Role.VIEWER),
            ("post", "", writer),
            ("delete", "", Role.ADMIN),
            ("get", "/archive", Role.VIEWER),
            ("get", "/history", Role.VIEWER),
            ("get", "/versions/<str:version>", Role.VIEWER),
            ("post", "/versions/<str:version>/restore", writer),
        )
    },
    ("get", "api/workspaces/<str:workspace>/tasks"): Role.VIEWER,
    ("get", "api/workspaces/<str:workspace>/tasks/<str:task>"): Role.VIEWER,
    ("post", "api/workspaces/<str:workspace>/tasks/<str:task>/execute"): Role.OPERATOR,
    ("post", "api/workspaces/<str:workspace>/tasks/<str:task>/plan"): Role.OPERATOR,
    ("get", "api/workspaces/<str:workspace>/tasks/<str:task>/stats"): Role.VIEWER,
    ("get", "api/workspaces/<str:workspace>/connection-types"): Role.VIEWER,
    ("get", "api/workspaces/<str:workspace>/connections"): Role.VIEWER,
    ("get", "api/workspaces/<str:workspace>/connections/<str:name>"): Role.VIEWER,
    ("put", "api/workspaces/<str:workspace>/connections/<str:name>"): Role.ADMIN,
    ("patch", "api/workspaces/<str:workspace>/connections/<str:name>"): Role.ADMIN,
    ("delete", "api/workspaces/<str:workspace>/connections/<str:name>"): Role.ADMIN,
    ("post", "api/workspaces/<str:workspace>/connections/<str:name>/check"): Role.OPERATOR,
    ("get", "api/jobs/<str:job>/artifacts"): Role.VIEWER,
    ("get", "api/jobs/<str:job>/artifacts.zip"): Role.VIEWER,
    ("get", "api/jobs/<str:job>/artifacts/<path:name>"): Role.VIEWER,
    ("get", "api/jobs/<str:job>/workflow-actions"): Role.VIEWER,
    ("get", "api/jobs/<str:job>"): Role.VIEWER,
    ("get", "api/jobs/<str:job>/news"): Role.VIEWER,
    ("get", "api/jobs/<str:job>/steps"): Role.VIEWER,
    ("get", "api/jobs/<str:job>/logs"): Role.VIEWER,
    ("get", "api/jobs/<str:job>/logs/search"): Role.VIEWER,
    ("get", "api/jobs/<str:job>/steps/<str:step>/logs"): Role.VIEWER,
    ("get", "api/jobs/<str:job>/steps/<str:step>/transcript"): Role.VIEWER,
    ("get", "api/jobs/<str:job>/workflow-actions/<str:action>/logs"): Role.VIEWER,
    ("post", "api/jobs/<str:job>/cancel"): Role.OPERATOR,
    ("post", "api/jobs/<str:job>/restart"): Role.OPERATOR,
    ("get", "api/approvals"): PEOPLE,
    ("get", "api/jobs/<str:job>/steps/<str:step>/approval"): Role.VIEWER,
    ("post", "api/jobs/<str:job>/steps/<str:step>/approve"): Role.OPERATOR,
    ("post", "api/jobs/<str:job>/steps/<str:step>/withdraw"): Role.VIEWER,
    ("post", "api/jobs/<str:job>/steps/<str:step>/delegate"): Role.OPERATOR,
    ("post", "api/jobs/<str:job>/steps/<str:step>/link"): Role.VIEWER,
}
BODIES = {
    "api/auth/login": {"email": "x@example.org", "password": "x"},
    "api/auth/api-keys": {"name": "k"},
    "api/auth/device": {"client_name": "laptop"},
    "api/auth/device/token": {"device_code": "x"},
    "api/auth/api-keys/<str:prefix>/rotate": {"overlap_hours": 1},
    "api/service-accounts": {"name": "new"},
    "api/service-accounts/<str:service>/api-keys": {"name": "k", "scopes": ["jobs:read"]},
    "api/service-accounts/<str:service>/api-keys/<str:prefix>/rotate": {"overlap_hours": 1},
    "api/workspaces/<str:workspace>/tasks/<str:task>/execute": {"input": {}},
    "api/workspaces/<str:workspace>/tasks/<str:task>/plan": {"input": {}},
    "api/workspaces/<str:workspace>/secrets/<str:name>": {"value": "long enough"},
    "put api/workspaces/<str:workspace>/connections/<str:name>": {"type": "db", "values": {}},
    "patch api/workspaces/<str:workspace>/connections/<str:name>": {"values": {}},
    "api/workspaces/<str:workspace>/subscriptions": {
        "name": "pager",
        "url": "https://receiver.example.org/hook",
        "events": ["job.failed"],
    },
    "api/workspaces/<str:workspace>/subscriptions/<str:subscription>": {
        "url": "https://receiver.example.org/hook",
        "events": ["job.failed"],
    },
    "api/users": {"email": "new@example.org", "groups": ["ops"]},
    "api/users/<str:user>/admin": {"is_admin": True},
    "api/users/<str:user>/groups": {"groups": ["ops"]},
    "api/jobs/<str:job>/steps/<str:step>/approve": {"approved": True},
    "api/jobs/<str:job>/steps/<str:step>/delegate": {"to": "deputy@example.org"},
}
QUERIES = {"api/jobs/<str:job>/logs/search": "?q=text"}
# Answers of open routes to anonymous callers, with these bodies.
OPEN_ANSWERS = {"api/auth/login": 401, "api/auth/refresh": 401, "api/auth/device/token": 400}
# Allowed, but without an object (an unknown key, an approval that was not given, a conversation of
# a step that is no agent), or too early.
IN_VAIN = {
    "api/jobs/<str:job>/steps/<str:step>/transcript": 409,
    "api/workspaces/<str:workspace>": 409,
    "api/workspaces/<str:workspace>/libraries/<str:name>/refresh": 404,
    "api/auth/agents/<str:agent>": 404,
    "api/auth/api-keys/<str:prefix>": 404,
    "api/auth/api-keys/<str:prefix>/rotate": 404,
    "api/jobs/<str:job>/steps/<str:step>/withdraw": 409,
}
# What makes something.
MAKING = {row for row in TABLE if row[0] == "post" and row[1].endswith("/state")}
RANK = [None, Role.VIEWER, Role.OPERATOR, Role.ADMIN]
METHODS = ("get", "post", "put", "patch", "delete")
ROWS = sorted(TABLE, key=str)
# The others are in `test_access_by_process`: another process must see the rows.
HERE = [row for row in ROWS if not row[1].endswith("/refresh")]


@dataclass
class World:
    names: dict[str, str]

    def path(self, route: str, **over: str) -> str:
        for key, value in {**self.names, **over}.items():
            route = route.replace(f"<str:{key}>", value).replace(f"<path:{key}>", value)
        assert "<" not in route
        return "/" + route

    def call(self, client: APIClient, method: str, route: str, **over: str) -> Any:
        body = BODIES.get(f"{method} {route}", BODIES.get(route))
        body = body if method in ("post", "put", "patch") else None
        path = self.path(route, **over) + (QUERIES.get(route, "") if method == "get" else "")
        return getattr(client, method)(path, body, format="json")


@pytest.fixture(scope="module")
def world(shared_rows: None, tmp_path_factory: pytest.TempPathFactory) -> World:  # noqa: F811
    return make_world(tmp_path_factory.mktemp("world"))


def make_world(folder: Path) -> World:
    own = workspace(folder, FLOW, "own")
    store_secret(own, "pw", "canary-secret", by="x")
    connections.store(own, "pw", "db", {"password": "canary-secret"}, by="x")
    told, _ = subscribe(own, "https://receiver.example.org/hook")
    delivery = ping(told, by="x")
    Delivery.objects.update(status=DeliveryStatus.FAILED)
    job, hand = start(own), Hand()
    shelve(job, "one", {"pw": b"bytes"})
    deputy = User.objects.create_user("deputy@example.org", PASSWORD)
    WorkspaceGrant.objects.create(user=deputy, pattern="own", role=Role.VIEWER)
    for task in ("main", ""):
        remember(own.pk, task, Change(0, {"n": 1}), Writer("step"))
    names = {
        "version": "1",
        "workspace": "own",
        "task": "main",
        "job": str(job.pk),
        "step": "gate",
        "action": "0",
        "trigger": "nightly",
        "letter": "all",
        "subscription": "chat",
        "delivery": str(delivery.pk),
        "worker": str(hand.id),
        "user": str(deputy.pk),
    }
    _, key = tokens.make_key(add_service("ci", ()), "nightly")
    return World({**names, "agent": "1", "name": "pw", "service": "ci", "prefix": key.prefix})


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    routes = {str(pattern.pattern) for pattern in urls.urlpatterns} - {"^api(?:/.*)?$"}
    versioned = {route for route in routes if route.startswith("api/v1/")}
    plain = routes - versioned
    assert plain == {route for _, route in TABLE}
    assert versioned == {f"api/v1/{route[4:]}" for route in plain if route.startswith("api/")}


def test_a_versioned_route_is_the_same_view() -> None:
    views = {str(pattern.pattern): pattern.callback for pattern in urls.urlpatterns}
    for route, view in views.items():
        if route.startswith("api/v1/"):
            assert view is views[f"api/{route[7:]}"]


def expected(needed: Any, role: Role | None) -> set[int]:
    """Statuses that a caller with `role` on every workspace may get."""
    if needed == SUPERUSERS:
        return {404} if role is None else {403}
    if needed == ADMINS:
        return {403}
    if needed in (EVERYBODY, PEOPLE) or RANK.index(role) >= RANK.index(needed):
        return {200}
    return {404} if role is None else {403}


@pytest.mark.sample(10)
@pytest.mark.parametrize("role", RANK, ids=str)
@pytest.mark.parametrize("row", HERE, ids=str)
def test_a_role_opens_what_the_table_says(
    world: World, row: tuple[str, str], role: Role | None
) -> None:
    opens_to_a_role(world, row, role)


def opens_to_a_role(world: World, row: tuple[str, str], role: Role | None) -> None:
    method, route = row
    answer = world.call(caller(role), method, route)
    allowed = expected(TABLE[row], role)
    if route in OPEN_ANSWERS:
        allowed = {OPEN_ANSWERS[route]}
    if allowed == {200} and route in IN_VAIN:
        allowed = {IN_VAIN[route]}
    if allowed == {200} and row in MAKING:
        allowed = {201}
    assert answer.status_code in allowed, answer.content


@pytest.mark.sample(10)
@pytest.mark.parametrize("row", HERE, ids=str)
def test_a_superuser_may_do_everything(world: World, row: tuple[str, str]) -> None:
    opens_to_a_superuser(world, row)


def opens_to_a_superuser(world: World, row: tuple[str, str]) -> None:
    root = caller(is_superuser=True)
    before = set(Entry.objects.values_list("pk", flat=True))
    answer = world.call(root, *row)
    noted = set(Entry.objects.exclude(pk__in=before).values_list("act", flat=True))
    if row[0] == "get" or row in NOT_NOTED:
        assert noted == set()
    else:
        assert NOTED[row] in noted
    if row[1] in IN_VAIN:
        assert answer.status_code == IN_VAIN[row[1]]
    else:
        assert answer.status_code < 400 or row[1] in OPEN_ANSWERS


@pytest.mark.sample(10)
@pytest.mark.parametrize("row", [row for row in ROWS if TABLE[row] != EVERYBODY], ids=str)
def test_without_a_token_only_the_open_routes_answer(world: World, row: tuple[str, str]) -> None:
    for headers, text in (
        ({}, "Authentication required"),
        ({"HTTP_AUTHORIZATION": "Bearer nothing"}, "Invalid or expired token"),
        ({"HTTP_AUTHORIZATION": "Bearer strm_" + "0" * 64}, "Invalid API key"),
        ({"HTTP_AUTHORIZATION": "Basic dTpw"}, "Authentication required"),
        ({"HTTP_AUTHORIZATION": "Bearer "}, "Invalid or expired token"),
        ({"HTTP_AUTHORIZATION": "Bearer \xff\x00"}, "Invalid or expired token"),
    ):
        client = APIClient(raise_request_exception=False)
        client.credentials(**headers)
        answer = world.call(client, *row)
        assert (answer.status_code, answer.json()) == (
            401,
            {"error": text, "code": "unauthenticated"},
        )


@pytest.mark.sample(10)
@pytest.mark.parametrize("row", [row for row in ROWS if isinstance(TABLE[row], Role)], ids=str)
def test_what_is_foreign_is_answered_like_what_does_not_exist(
    world: World, tmp_path: Path, row: tuple[str, str]
) -> None:
    stranger = caller(Role.ADMIN, "other-*")
    workspace(tmp_path, FLOW, "other-1")
    foreign = world.call(stranger, *row)
    unknown = world.call(stranger, *row, workspace="own2", job=str(uuid.uuid4()))
    assert foreign.status_code == unknown.status_code == 404
    assert foreign.content.replace(b"'own'", b"''") == unknown.content.replace(b"'own2'", b"''")
    assert Job.objects.filter(status="cancelled").count() == 0
    assert Secret.objects.count() == 1
    assert Subscription.objects.count() == Delivery.objects.count() == 1


def test_lists_and_counts_hold_only_what_is_visible(world: World, tmp_path: Path) -> None:
    start(workspace(tmp_path, FLOW, "other-1"))
    for client, names in (
        (caller(Role.VIEWER, "own"), ["own"]),
        (caller(), []),
        (caller(Role.VIEWER), ["other-1", "own"]),
    ):
        assert [item["name"] for item in client.get("/api/workspaces").json()] == names
        assert [item["workspace"] for item in client.get("/api/tasks").json()] == names
        page = client.get("/api/jobs").json()
        assert sorted(item["workspace"] for item in page["items"]) == names
        assert page["total"] == len(names)
        assert client.get("/api/stats").json()["running"] == len(names)
        answer = client.get("/api/jobs?workspace=own")
        assert answer.status_code == (200 if "own" in names else 404)
        assert answer.json().get("total") == (1 if "own" in names else None)


def test_a_worker_shows_only_steps_that_may_be_seen(world: World) -> None:
    hand = Hand()
    assert hand.claim() is not None
    path = f"/api/workers/{hand.id}"
    assert caller(Role.VIEWER).get(path).json()["steps"]["total"] == 1
    assert caller().get(path).json()["steps"] == {"items": [], "total": 0}


@pytest.mark.sample(10)
@pytest.mark.parametrize("row", ROWS, ids=str)
def test_other_methods_are_405_and_json(world: World, row: tuple[str, str]) -> None:
    _, route = row
    known = {method for method, path in TABLE if path == route}
    client = caller(is_superuser=True)
    for method in set(METHODS) - known:
        answer = getattr(client, method)(world.path(route))
        assert answer.status_code == 405, (method, answer.content)
        if route != "healthz":
            assert "error" in answer.json()


def spellings(path: str) -> list[str]:
    return [
        path + "/", path + "//", path + "/.", path + "/..", path + ".json", path + ";x", path + ";.css", path + "%2f",
        path + "%00", path + "%20", path + "?x", path + "#x", path + "%3f", path + "..;/", path + "/%2e%2e", "/" + path,
        "//" + path, path.replace("/api/", "/api//"), path.replace("/api/", "//api/"), path.replace("/api/", "/API/"),
        path.replace("/api/", "/Api/"), path.replace("/api/", "/api/./"), path.replace("/api/", "/x/../api/"),
        path.replace("/api/", "/api/%2e/"), path.replace("/api/", "/%61pi/"), path.replace("/api/", "/api%2f"),
        path.replace("/api/", "/api\\"), path.replace("/api/", "/api;/"), path.replace("/api/", "/static/../api/"),
        path.replace("/api/", "/healthz/../api/"), path.replace("/api/", "/api/config/../"), path.upper(), path.title(),
        path + "?format=json", path + "?token=x", path + "?_method=GET", path + "/healthz", path + "/config",
        path + "%0a", path + "\u2028",
    ]  # fmt: skip


@pytest.mark.sample(10)
@pytest.mark.parametrize("row", [row for row in ROWS if TABLE[row] != EVERYBODY], ids=str)
def test_no_spelling_of_a_path_gets_around_the_check(world: World, row: tuple[str, str]) -> None:
    method, route = row
    client = APIClient(raise_request_exception=False)
    found = spellings(world.path(route))
    assert len(found) == 40
    tricks = {
        "HTTP_X_HTTP_METHOD_OVERRIDE": "GET",
        "HTTP_X_FORWARDED_FOR": "127.0.0.1",
        "HTTP_X_ORIGINAL_URL": "/healthz",
    }
    for spelling in found:
        answer = getattr(client, method)(spelling, **tricks)
        assert not 200 <= answer.status_code < 300, spelling


def test_a_key_acts_like_its_user_but_makes_no_keys(world: World) -> None:
    person = user(Role.VIEWER)
    key, _ = tokens.make_key(person, "ci")
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    assert client.get("/api/jobs").status_code == 200
    assert client.post(world.path("api/jobs/<str:job>/cancel")).status_code == 403
    for answer in (
        client.get("/api/auth/agents"),
        client.delete("/api/auth/agents/1"),
        client.get("/api/auth/api-keys"),
        client.post("/api/auth/api-keys", {"name": "x"}, format="json"),
    ):
        assert (answer.status_code, answer.json()) == (
            403,
            {"error": "API key management requires JWT authentication", "code": "forbidden"},
        )


def test_every_row_that_changes_something_is_noted_or_says_why_not() -> None:
    changing = {row for row in TABLE if row[0] != "get"}
    assert changing == set(NOTED) | set(NOT_NOTED)
    assert not set(NOTED) & set(NOT_NOTED)
    assert {*NO_KEY, *FOR_RUNNING, *FOR_DECIDING, *FOR_BOTH, *FOR_ADMINS} <= set(TABLE)


def with_key(owner: User, **limits: Any) -> APIClient:
    key, _ = tokens.make_key(owner, "k", **limits)
    client = APIClient(raise_request_exception=False)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    return client


@pytest.mark.sample(4)
@pytest.mark.parametrize("scope", Scope)
def test_a_scope_opens_what_the_table_says_and_nothing_else(world: World, scope: Scope) -> None:
    client, calls = with_key(user(is_superuser=True), scopes=[scope]), 0
    for row in ROWS:
        is_open = scope in opened_by(row)
        if TABLE[row] == EVERYBODY or (is_open and row[1].endswith("/refresh")):
            continue
        with transaction.atomic():
            answer = world.call(client, *row)
            transaction.set_rollback(True)
        calls += 1
        if is_open:
            allowed = {IN_VAIN[row[1]]} if row[1] in IN_VAIN else {200, 201}
        else:
            allowed = {403}
        assert answer.status_code in allowed, (row, answer.content)
    assert calls > 90


@pytest.mark.sample(4)
@pytest.mark.parametrize("scope", Scope)
def test_a_scope_gives_nothing_that_its_owner_may_not(world: World, scope: Scope) -> None:
    client = with_key(user(), scopes=[scope])
    for row in ROWS:
        if TABLE[row] in (EVERYBODY, PEOPLE):
            continue
        assert world.call(client, *row).status_code in (403, 404), row
    assert client.get("/api/jobs").json().get("total", 0) == 0


def test_a_key_for_other_workspaces_sees_nothing_of_this_one(world: World, tmp_path: Path) -> None:
    start(workspace(tmp_path, FLOW, "other-1"))
    owner = user(is_superuser=True)
    client = with_key(owner, scopes=["admin"], workspaces=["other-*"])
    for row in ROWS:
        needed = TABLE[row]
        if isinstance(needed, Role) or needed == SUPERUSERS:
            assert world.call(client, *row).status_code == 404, row
        elif needed == ADMINS:
            assert world.call(client, *row).status_code == 403, row
    assert [row["name"] for row in client.get("/api/workspaces").json()] == ["other-1"]
    assert [row["workspace"] for row in client.get("/api/jobs").json()["items"]] == ["other-1"]
    assert client.get("/api/jobs?workspace=own").status_code == 404
    assert client.get("/api/stats").json()["running"] == 1
    path = "/api/workspaces/other-1/secrets/pw"
    assert client.put(path, {"value": "long enough"}, format="json").status_code == 200
    assert client.delete("/api/workspaces/other-1").status_code == 403
    owner.refresh_from_db()
    assert owner.is_superuser


def test_a_browsers_session_needs_the_csrf_token(world: World) -> None:
    person = user(Role.OPERATOR)
    client = APIClient(enforce_csrf_checks=True, raise_request_exception=False)
    assert client.login(username=person.email, password=PASSWORD)
    path = world.path("api/jobs/<str:job>/cancel")
    assert client.get("/api/jobs").status_code == 200
    refused = client.post(path)
    assert refused.status_code == 403
    assert "CSRF" in refused.json()["error"]
    client.cookies["csrftoken"] = "a" * 32
    assert client.post(path, HTTP_X_CSRFTOKEN="a" * 32).status_code == 200


def test_a_disabled_user_is_out_at_once(world: World) -> None:
    person = user(Role.ADMIN)
    client = client_of(person)
    assert client.get("/api/jobs").status_code == 200
    person.is_active = False
    person.save()
    assert client.get("/api/jobs").status_code == 401


def test_no_route_lies_outside_the_table() -> None:
    top = {str(pattern.pattern) for pattern in get_resolver().url_patterns}
    # A link in an e-mail only leads to a page; a pod has its own token for one revision and attempt.
    assert top <= {
        "",
        "admin/",
        "approvals/link/<str:token>",
        "worker/artifacts",
        "worker/artifacts/ask",
        "worker/artifacts/end",
        "worker/workspace/<str:workspace>.tar.gz",
    }
