"""Checks of connections, the pages and the routes: who may do what, and that no secret is shown."""

from __future__ import annotations

from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Role, WorkspaceGrant
from apps.audit.models import Entry
from apps.jobs import ledger
from apps.jobs.models import Job
from apps.workspaces import connections
from apps.workspaces.models import Connection, Workspace
from apps.workspaces.revisions import connections_of
from engine.masking import MASK
from engine.orders import Line
from tests.apps.api.callers import caller, error, user
from tests.apps.api.callers import client_of as caller_of
from tests.apps.connections.shop import CANARY, GIVEN, SHOP
from tests.apps.jobs.builders import Hand, failed, workspace
from tests.apps.workspaces.test_admin import client_of

pytestmark = pytest.mark.django_db
API = "/api/workspaces/shop/connections"
PAGE = "/admin/connections/shop/of/main/"
FORM = {f"input-{key}": value for key, value in GIVEN.items()}


@pytest.fixture(name="shop")
def workspace_of_tests(tmp_path: Path) -> Workspace:
    return workspace(tmp_path, SHOP, "shop")


def client(role: Role | None) -> Client:
    made = user(role, "shop")
    made.is_staff = True
    made.save()
    return client_of(made)


def text_of(answer: Any) -> str:
    text: str = answer.content.decode()
    assert CANARY not in text
    return text


def line(text: str) -> Line:
    return Line(0.0, "stdout", text)


def test_a_check_is_a_job_with_the_values_of_the_connection(shop: Workspace) -> None:
    operator = caller(Role.OPERATOR)
    connections.store(shop, "main", "db", GIVEN, by="a")
    job = Job.objects.get(pk=operator.post(f"{API}/main/check").json()["job_id"])
    assert (job.task_name, job.source_type, job.source_id) == ("_check:main", "check", "main")
    hand = Hand()
    claim = hand.take("check")
    material = ledger.material(claim)
    assert isinstance(material, ledger.Material)
    assert material.connections["main"]["host"] == "stored.internal"
    ledger.append(claim, 0, [line("no route to stored.internal")])
    hand.start(claim)
    hand.finish(claim, failed("Exit code: 7", 7))
    (found,) = [one for one in operator.get(API).json() if one["name"] == "main"]
    assert found["last_check"]["status"] == "failed" and "Exit code: 7" in str(found["last_check"])
    page = text_of(client(Role.VIEWER).get(PAGE))
    assert "no route to stored.internal" in page and "Check the connection" not in page


def test_a_check_sees_what_another_process_has_stored_a_moment_ago(
    shop: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would say of the earlier values that they work."""
    connections_of(shop.current_id)  # as of now, there is none
    monkeypatch.setattr("apps.workspaces.revisions.forget_secrets", lambda workspace_id: None)
    connections.store(shop, "main", "db", GIVEN, by="a")
    caller(Role.OPERATOR).post(f"{API}/main/check")
    material = ledger.material(Hand().take("check"))
    assert isinstance(material, ledger.Material)
    assert material.connections["main"]["host"] == "stored.internal"


def test_what_cannot_be_checked_says_why(shop: Workspace) -> None:
    operator = caller(Role.OPERATOR)
    answer = operator.post(f"{API}/loose/check")
    assert (answer.status_code, error(answer)) == (
        409,
        "Connection 'loose' cannot be checked. It has no type, and a type's `check` says how to"
        " check a connection",
    )
    assert operator.post(f"{API}/none/check").status_code == 404
    assert caller(Role.VIEWER).post(f"{API}/main/check").status_code == 403
    assert caller().post(f"{API}/main/check").status_code == 404
    assert client(Role.VIEWER).post("/admin/connections/shop/check/main/").status_code == 403
    assert not Job.objects.exists()


def test_the_api_stores_changes_and_removes_and_shows_no_secret(shop: Workspace) -> None:
    admin = caller(Role.ADMIN)
    stored = admin.put(f"{API}/main", {"type": "db", "values": GIVEN}, format="json")
    assert stored.json() == {"name": "main", "version": 1, "overrides": True}
    changed = admin.patch(
        f"{API}/main", {"values": {"password": "new-canary-1"}, "version": 1}, format="json"
    )
    assert changed.json()["version"] == 2
    assert connections_of(shop.current_id)["main"]["password"] == "new-canary-1"
    late = admin.patch(
        f"{API}/main", {"values": {"password": "x" * 9}, "version": 1}, format="json"
    )
    assert late.status_code == 409 and "has version 2 now, not 1" in error(late)
    wrong = admin.patch(f"{API}/main", {"values": {"port": "many"}}, format="json")
    assert wrong.status_code == 400
    assert wrong.json()["fields"] == {"port": "field 'port' must be a whole number, not 'many'"}
    seen = admin.get(f"{API}/main")
    assert CANARY not in seen.content.decode()
    by_name = {one["name"]: one for one in seen.json()["properties"]}
    assert by_name["host"]["value"] == "stored.internal" and by_name["password"]["is_set"]
    assert "value" not in by_name["password"]
    assert seen.json()["asked_by"] == ["load"] and seen.json()["overrides"]
    assert [(use["owner"], use["step"]) for use in seen.json()["used_by"]] == [
        ("load", None), ("load", "a"),
    ]  # fmt: skip
    gone = admin.delete(f"{API}/main")
    assert gone.json() == {"name": "main", "is_in_files": True}
    assert admin.patch(f"{API}/main", {"values": {}}, format="json").status_code == 404


def test_only_admins_write_and_see_values(shop: Workspace) -> None:
    connections.store(shop, "main", "db", GIVEN, by="a")
    for role, status in ((Role.OPERATOR, 403), (Role.VIEWER, 403), (None, 404)):
        person = caller(role)
        for answer in (
            person.put(f"{API}/main", {"type": "db", "values": GIVEN}, format="json"),
            person.patch(f"{API}/main", {"values": GIVEN}, format="json"),
            person.delete(f"{API}/main"),
        ):
            assert answer.status_code == status
        assert "stored.internal" not in person.get(f"{API}/main").content.decode()
        site = client(role)
        expected = 404 if role is None else 403
        assert site.post(PAGE, FORM).status_code == expected
        assert site.post("/admin/connections/shop/remove/main/").status_code == expected
        assert site.get("/admin/connections/shop/add/db/").status_code == expected
        if role is not None:
            assert "stored.internal" not in text_of(site.get(PAGE))
    assert Connection.objects.get().version == 1


def test_types_are_listed_with_their_properties(shop: Workspace) -> None:
    (found,) = caller(Role.VIEWER).get("/api/workspaces/shop/connection-types").json()
    assert (found["name"], found["check"], found["connections"]) == ("db", "ping", ["main"])
    assert [one["name"] for one in found["properties"]] == [
        "host", "port", "mode", "password", "key",
    ]  # fmt: skip


def test_the_form_has_a_field_for_each_property_and_keeps_what_is_secret(shop: Workspace) -> None:
    admin = client(Role.ADMIN)
    page = text_of(admin.get(PAGE))
    assert 'name="input-port" value="5432"' in page and "<select" in page
    wrong = text_of(admin.post(PAGE, {**FORM, "input-port": "many", "version": "0"}))
    assert "field &#x27;port&#x27; must be a whole number" in wrong
    admin.post(PAGE, {**FORM, "input-key": "line-canary\nsecond", "version": "0"})
    assert connections_of(shop.current_id)["main"]["key"] == "line-canary\nsecond"
    page = text_of(admin.get(PAGE))
    assert "stored.internal" in page and "overrides the one of the files" in page
    assert "A value is stored." in page and "If empty: 5432." in page
    admin.post(PAGE, {"input-host": "third.internal", "version": "1"})
    found = connections_of(shop.current_id)["main"]
    assert (found["host"], found["password"]) == ("third.internal", GIVEN["password"])
    late = text_of(admin.post(PAGE, {"input-host": "fourth", "version": "1"}))
    assert "has changed the connection meanwhile" in late


def test_a_new_one_is_added_by_its_type_and_removed(shop: Workspace) -> None:
    admin = client(Role.ADMIN)
    address = "/admin/connections/shop/add/db/"
    assert "must be" not in text_of(admin.get(address))
    assert "This field is required" in text_of(admin.post(address, FORM))
    answer = admin.post(address, {**FORM, "name": "extra"}, follow=True)
    assert "Connection extra is stored." in text_of(answer)
    again = text_of(admin.post(address, {**FORM, "name": "extra"}))
    assert "is stored already" in again and Connection.objects.count() == 1
    listed = text_of(admin.get("/admin/connections/"))
    assert "extra" in listed and "2 places" in listed and "not named" in listed
    admin.post("/admin/connections/shop/remove/extra/")
    assert not Connection.objects.exists()


def test_one_whose_type_is_gone_can_still_be_removed(shop: Workspace) -> None:
    connections.store(shop, "extra", "db", GIVEN, by="a")
    Connection.objects.update(type="gone")
    admin, page = client(Role.ADMIN), "/admin/connections/shop/of/extra/"
    found = text_of(admin.get(page))
    assert "no longer fits its type" in found and "Remove it" in found and "<form" in found
    assert admin.post(page, FORM).status_code == 403
    assert caller(Role.OPERATOR).post(f"{API}/extra/check").status_code == 409
    admin.post("/admin/connections/shop/remove/extra/")
    assert not Connection.objects.exists()


def test_forms_of_tasks_and_plans_know_stored_connections(shop: Workspace) -> None:
    connections.store(shop, "extra", "db", GIVEN, by="a")
    page = text_of(client(Role.OPERATOR).get("/admin/tasks/shop/load/"))
    assert '<option value="extra"' in page
    operator = caller(Role.OPERATOR)
    task = operator.get("/api/workspaces/shop/tasks/load").json()
    assert task["connections"] == {"db": ["extra", "loose", "main"]}
    (row,) = operator.get("/api/workspaces").json()
    assert row["connections_count"] == 3
    connections.store(shop, "main", "db", GIVEN, by="a")
    (step,) = operator.post("/api/workspaces/shop/tasks/load/plan", {}, format="json").json()[
        "steps"
    ]
    assert step["connections"] == [
        {"input": "to", "name": "main", "source": "database", "overrides": True}
    ]


def test_the_list_takes_the_same_queries_for_one_workspace_and_for_many(
    shop: Workspace, tmp_path: Path
) -> None:
    viewer = client_of(user(Role.VIEWER, is_superuser=True))
    counts = []
    for name in ("second", "third", "fourth"):
        connections.store(workspace(tmp_path, SHOP, name), "main", "db", GIVEN, by="a")
        viewer.get("/admin/connections/")
        with CaptureQueriesContext(connection) as queries:
            assert name in text_of(viewer.get("/admin/connections/"))
        counts.append(len(queries))
    assert len(set(counts)) == 1


def test_the_page_of_the_workspace_names_what_overrides_its_files(shop: Workspace) -> None:
    connections.store(shop, "main", "db", GIVEN, by="a")
    page = text_of(client(Role.VIEWER).get(f"/admin/workspaces/workspace/{shop.pk}/change/"))
    assert "2 connections" in page and "in place of those of the files: main" in page


def test_a_masked_value_never_replaces_a_stored_one(shop: Workspace) -> None:
    admin = caller(Role.ADMIN)
    admin.put(f"{API}/main", {"type": "db", "values": GIVEN}, format="json")
    body = {"type": "db", "values": {"host": "h2", "password": MASK}}
    assert admin.put(f"{API}/main", body, format="json").status_code == 200
    assert connections_of(shop.current_id)["main"]["password"] == GIVEN["password"]


def test_why_a_check_failed_is_for_those_who_see_logs(shop: Workspace) -> None:
    operator = caller(Role.OPERATOR)
    operator.post(f"{API}/main/check")
    hand = Hand()
    claim = hand.take("check")
    hand.start(claim)
    hand.finish(claim, failed("Exit code: 7", 7))
    person = user()
    WorkspaceGrant.objects.create(user=person, pattern="*", role=Role.CUSTOM, rights=["see"])
    person.is_staff = True
    person.save()
    for address in (API, f"{API}/main"):
        assert "Exit code" in operator.get(address).content.decode()
        answer = caller_of(person).get(address)
        assert answer.status_code == 200 and "Exit code" not in answer.content.decode()
    assert "Exit code" in text_of(client(Role.VIEWER).get(PAGE))
    assert "Exit code" not in text_of(client_of(person).get(PAGE))


def test_a_check_by_command_is_noted_under_the_name_of_who_asks(shop: Workspace) -> None:
    connections.store(shop, "main", "db", GIVEN, by="a")
    asks, out = user(Role.OPERATOR, "shop").email, StringIO()
    call_command("connections", "check", "shop", "main", "--as", asks, stdout=out)
    job = Job.objects.get(pk=out.getvalue().strip())
    assert job.source_id == "main"
    assert Entry.objects.get(act="job.start", object=str(job.pk)).actor == asks
