"""What the audit log keeps, and how it is read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from rest_framework.test import APIClient

from apps.accounts import services, tokens
from apps.accounts.errors import SignInRefused, TooMany
from apps.accounts.models import ApiToken, ConnectedAgent, Role, User
from apps.audit import services as audit
from apps.audit.models import Entry
from apps.audit.services import note
from apps.jobs import services as jobs
from apps.jobs.flow.cancellation import cancel
from apps.workspaces.secrets import store_secret
from apps.workspaces.services import import_folder
from engine.errors import Conflict
from tests.apps.api.callers import PASSWORD, caller, client_of, user
from tests.apps.jobs.builders import start, workspace

pytestmark = pytest.mark.django_db
FLOW = """
actions: {work: {type: script, script: "true"}}
tasks: {main: {flow: {one: {action: work}}}}
"""


def acts(**wanted: Any) -> list[str]:
    return list(Entry.objects.filter(**wanted).order_by("id").values_list("act", flat=True))


@pytest.fixture
def root() -> User:
    return user(is_superuser=True)


@pytest.fixture
def page(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


def test_nobody_changes_or_deletes_an_entry() -> None:
    note("secret.set", "pw")
    for attempt in (
        lambda: Entry.objects.update(actor="somebody@example.org"),
        lambda: Entry.objects.all().delete(),
        lambda: Entry.objects.get().delete(),
    ):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            attempt()
    assert Entry.objects.get().actor == ""


def test_an_act_that_is_taken_back_leaves_no_entry(tmp_path: Path) -> None:
    own = workspace(tmp_path, FLOW, "own")
    with pytest.raises(RuntimeError), transaction.atomic():
        store_secret(own, "pw", "canary-4711", by="ada@example.org")
        raise RuntimeError
    assert acts(kind="secret") == []


def test_an_act_without_an_entry_is_not_done(tmp_path: Path) -> None:
    """The log cannot be written to: nothing happens unseen."""
    job = start(workspace(tmp_path, FLOW, "own"))
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE audit_entry ADD CONSTRAINT full_up CHECK (act = '') NOT VALID")
    with pytest.raises(DatabaseError), transaction.atomic():
        cancel(job.pk, actor="ada@example.org", reason="x")
    job.refresh_from_db()
    assert job.status == "running"


def test_what_is_refused_leaves_no_entry_of_the_act(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, FLOW, "own"))
    jobs.cancel_job(job.pk, actor="ada@example.org")
    with pytest.raises(Conflict):
        jobs.cancel_job(job.pk, actor="ada@example.org")
    assert acts(act="job.cancel") == ["job.cancel"]


# Who, and from where


def test_a_request_says_who_from_where_and_with_which_key(tmp_path: Path) -> None:
    workspace(tmp_path, FLOW, "own")
    person = user(Role.ADMIN)
    key, row = tokens.make_key(person, "ci")
    client = APIClient(REMOTE_ADDR="192.0.2.7")
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    path = "/api/workspaces/own/secrets/pw"
    assert client.put(path, {"value": "canary-4711"}, format="json").status_code == 200
    found = Entry.objects.get(act="secret.set")
    assert (found.actor, found.via, found.address, found.key) == (
        person.email, "api", "192.0.2.7", row.prefix,
    )  # fmt: skip
    assert (found.object, found.workspace) == ("pw", "own")
    assert found.changes == {"value": {"changed": True}}
    assert not Entry.objects.filter(changes__icontains="4711").exists()


def test_a_command_says_which_local_user_called_it() -> None:
    with audit.during(audit.of_command()):
        note("secret.set", "pw", by="ada@example.org")
    found = Entry.objects.get()
    assert (found.actor, found.via) == ("ada@example.org", "command")
    assert found.address.startswith("local user ")


# Signing in


def test_sign_ins_are_noted_however_they_end(root: User) -> None:
    client = APIClient(REMOTE_ADDR="192.0.2.7")
    given = {"email": root.email, "password": PASSWORD}
    assert client.post("/api/auth/login", given, format="json").status_code == 200
    assert client.post("/api/auth/logout", {}, format="json").status_code == 200
    wrong = {**given, "password": "canary-not-it"}
    assert client.post("/api/auth/login", wrong, format="json").status_code == 401
    browser = Client(REMOTE_ADDR="192.0.2.8")
    page_given = {"username": root.email, "password": PASSWORD}
    assert browser.post("/admin/login/", page_given).status_code == 302
    assert browser.post("/admin/logout/").status_code == 302
    browser.post("/admin/login/", {**page_given, "password": "canary-not-it"})
    assert acts(kind="session") == ["session.begin", "session.end", "session.refused"] * 2
    vias = Entry.objects.filter(kind="session").values_list("via", "address", "object").distinct()
    assert set(vias) == {("api", "192.0.2.7", root.email), ("page", "192.0.2.8", root.email)}
    assert not Entry.objects.filter(object__contains="canary").exists()


def test_guesses_are_noted_as_throttled_once_a_minute(root: User) -> None:
    for _ in range(9):
        with pytest.raises((SignInRefused, TooMany)):
            services.check_sign_in(root.email, "wrong", "192.0.2.9")
    assert acts(kind="session") == ["session.refused"] * 5 + ["session.throttled"]


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("hunter2-my-password", "unknown account"),
        ("eve@example.org", "unknown account eve@example.org"),
        ("\ud800@example.org", "unknown account"),
    ],
)
def test_a_password_in_the_wrong_field_is_not_kept(typed: str, told: str) -> None:
    with pytest.raises(SignInRefused):
        services.check_sign_in(typed, "x", "192.0.2.9")
    assert Entry.objects.get().object == told


def test_a_refresh_token_that_comes_twice_ends_the_sign_in_and_is_noted(root: User) -> None:
    now = datetime.now(UTC)
    pair = tokens.begin_chain(root, now)
    tokens.rotate(pair.refresh, now)
    with pytest.raises(tokens.TokenRefused):
        tokens.rotate(pair.refresh, now)
    found = Entry.objects.get(act="session.end")
    assert (found.actor, found.detail) == (root.email, "a refresh token was used twice")


# What the table of routes cannot call with one request


def test_own_keys_and_agents_are_noted_when_they_end(root: User) -> None:
    client = client_of(root)
    made = client.post("/api/auth/api-keys", {"name": "ci"}, format="json").json()
    path = f"/api/auth/api-keys/{made['prefix']}"
    turned = client.post(f"{path}/rotate", {"overlap_hours": 1}, format="json").json()
    assert client.delete(path).status_code == 200
    assert acts(kind="api-key") == ["api-key.add", "api-key.rotate", "api-key.revoke"]
    text = "".join(map(str, Entry.objects.values()))
    assert made["key"] not in text and turned["key"] not in text
    agent = ConnectedAgent.objects.create(
        user=root, grant="g", client_id="c", name="bot", credential=root.credential,
        expires_at=datetime.now(UTC) + timedelta(days=1),
    )  # fmt: skip
    assert client.delete(f"/api/auth/agents/{agent.pk}").status_code == 200
    assert acts(kind="connected-agent") == ["connected-agent.revoke"]


def test_a_removed_workspace_is_noted(tmp_path: Path) -> None:
    workspace(tmp_path, FLOW, "own")
    assert caller(is_superuser=True).delete("/api/workspaces/own").status_code == 200
    found = Entry.objects.get(act="workspace.remove")
    assert (found.object, found.workspace) == ("own", "own")


# Reading


def fill(count: int) -> None:
    Entry.objects.bulk_create(
        Entry(
            actor=f"p{n % 3}@example.org",
            act="secret.set" if n % 2 else "job.cancel",
            kind="secret" if n % 2 else "job",
            object=f"thing {n}",
            workspace="own",
            via="api",
            address="192.0.2.1",
            at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n // 2),
        )
        for n in range(count)
    )


def test_pages_of_the_api_bring_each_entry_once(root: User) -> None:
    fill(25)
    client, found, cursor = client_of(root), [], ""
    while cursor is not None:
        page = client.get(f"/api/audit?limit=10&address=192.0.2.1&cursor={cursor}").json()
        assert len(page["items"]) <= 10
        found += [item["object"] for item in page["items"]]
        cursor = page["next"]
    assert found == [f"thing {n}" for n in reversed(range(25))]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("who=p1@example.org", 8),
        ("what=secret", 12),
        ("what=secret.set&who=p1@example.org", 4),
        ("object=thing 7", 1),
        ("workspace=other", 0),
        ("since=2026-01-01T00:05:00Z", 15),
        ("since=2026-01-01T00:05:00Z&until=2026-01-01T00:06:00Z", 2),
        ("since=2026-01-01T23:05:00%2B23:00&until=2025-12-31T01:06:00-23:00", 2),
        ("search=thing 2", 1),
        ("search=hing 2", 6),
        ("search=p2@example.org", 8),
        ("search=nothing like it", 0),
        ("search=a%00b", 0),
    ],
)
def test_filters_and_the_search_narrow(root: User, query: str, count: int) -> None:
    fill(25)
    answer = client_of(root).get(f"/api/audit?{query}&address=192.0.2.1")
    assert answer.status_code == (400 if "%00" in query else 200), answer.content
    if answer.status_code == 200:
        assert len(answer.json()["items"]) == count


@pytest.mark.parametrize(
    "query",
    [
        "since=yesterday",
        "since=2026-01-01",
        "until=0001-01-01T00:00:00%2B23:00",
        "cursor=x",
        "whom=x",
    ],
)
def test_a_wrong_filter_is_refused_by_name(root: User, query: str) -> None:
    answer = client_of(root).get(f"/api/audit?{query}")
    assert answer.status_code == 400
    assert query.partition("=")[0] in answer.json()["error"]


def body_of(answer: Any) -> list[dict[str, Any]]:
    async def read() -> bytes:
        return b"".join([piece async for piece in answer.streaming_content])

    return [json.loads(line) for line in async_to_sync(read)().decode().splitlines()]


@pytest.mark.django_db(transaction=True)
def test_the_export_holds_what_the_filters_leave(root: User, page: Client) -> None:
    fill(1_203)
    rows = body_of(client_of(root).get("/api/audit/export?what=secret"))
    assert [row["object"] for row in rows] == [f"thing {n}" for n in range(1201, 0, -2)]
    rows = body_of(page.get("/admin/audit/entry/export/?what=job&who=p0@example.org"))
    assert {row["what"] for row in rows} == {"job.cancel"}
    assert {row["who"] for row in rows} == {"p0@example.org"} and len(rows) == 201


def test_the_command_prints_json_lines() -> None:
    fill(25)
    out = StringIO()
    call_command("audit", "--since", "2026-01-01T00:05:00Z", "--what", "secret", stdout=out)
    rows = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [row["object"] for row in rows] == [f"thing {n}" for n in range(23, 9, -2)]
    out = StringIO()
    call_command("audit", "--limit", "2", stdout=out)
    assert len(out.getvalue().splitlines()) == 2


def test_a_password_set_by_a_command_is_noted(root: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: "canary of a new password")
    call_command("changepassword", root.email, stdout=StringIO())
    found = Entry.objects.latest("pk")
    assert (found.act, found.via, found.object) == ("user.password", "command", root.email)
    assert "canary" not in str(found.changes)


def test_the_page_lists_filters_and_leads_on(page: Client) -> None:
    Group.objects.create(name="ops")
    fill(25)
    note("user.change", "eve@example.org", by="x@example.org",
         changes={"email": {"before": "<b>", "after": "new"}, "password": {"changed": True}})  # fmt: skip
    text = page.get("/admin/audit/entry/").content.decode()
    assert (
        "eve@example.org" in text
        and "&lt;b&gt; → new" in text
        and "<b>password</b> changed" in text
    )
    assert "/admin/audit/entry/export/" in text
    text = page.get("/admin/audit/entry/?who=p1@example.org&what=secret").content.decode()
    assert "p1@example.org" in text and "p2@example.org" not in text
    assert "who=p1%40example.org" in text  # the export keeps the filters
    text = page.get("/admin/audit/entry/?q=thing+7").content.decode()
    assert "thing 7" in text and "thing 8" not in text


def test_only_superusers_read_it() -> None:
    person = user(Role.ADMIN)
    User.objects.filter(pk=person.pk).update(is_staff=True)
    client = Client()
    client.force_login(person)
    assert client.get("/admin/audit/entry/").status_code == 403
    assert client.get("/admin/audit/entry/export/").status_code == 403
    assert ApiToken.objects.count() == 0


def test_a_repeated_import_tells_only_of_what_differs(tmp_path: Path) -> None:
    """`up` imports its workspaces at each start; people read of it when that changes something."""
    (tmp_path / "flow.yaml").write_text(FLOW)
    for folder in (tmp_path, tmp_path):
        import_folder("shop", folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "flow.yaml").write_text(FLOW)
    import_folder("shop", elsewhere)
    with audit.during(audit.Origin("command")):
        import_folder("shop", elsewhere)

    found = Entry.objects.filter(act="workspace.import").order_by("id")
    kinds = [(row.via, sorted(row.changes)) for row in found]
    assert kinds == [("server", ["location", "source"]), ("server", ["location"]), ("command", [])]
