"""Connections of the database: what steps get, what is refused, what becomes of them when their
type changes."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from pytest_django import DjangoAssertNumQueries

from apps.audit.models import Entry
from apps.jobs import ledger
from apps.workspaces import connections, revisions, services
from apps.workspaces.merging import held
from apps.workspaces.models import Connection, Workspace
from engine.errors import Conflict, InputError, NotFound
from engine.masking import MASK, masker
from tests.apps.connections.shop import GIVEN, SHOP
from tests.apps.jobs.builders import Hand, start, workspace
from workers.rendering import Rendered, Unrenderable, render

pytestmark = pytest.mark.django_db


@pytest.fixture(name="shop")
def workspace_of_tests(tmp_path: Path) -> Workspace:
    return workspace(tmp_path, SHOP, "shop")


def store(shop: Workspace, name: str = "main", /, **given: Any) -> Connection:
    return connections.store(shop, name, "db", GIVEN | given, by="a@example.org")


def rewritten(shop: Workspace, before: str, after: str) -> Workspace:
    file = Path(shop.location) / "workflow.yaml"
    file.write_text(file.read_text().replace(textwrap.dedent(before), textwrap.dedent(after)))
    found = services.refresh(shop)
    assert not found.has_failed, found.problems
    return found


def rendered(shop: Workspace, task: str = "load") -> Rendered:
    """The step of a job, as its worker gets it."""
    start(shop, task)
    claim = Hand().claim()
    assert claim is not None
    material = ledger.material(claim)
    assert isinstance(material, ledger.Material)
    return render(claim, material)


def place(shop: Workspace) -> str:
    return rendered(shop).env["PLACE"]


def refused(shop: Workspace, name: str = "main", /, kind: str = "db", **given: Any) -> Any:
    with pytest.raises(InputError) as error:
        connections.store(shop, name, kind, given, by="a")
    assert not Connection.objects.exists()
    return dict(error.value.problems)


def test_a_stored_connection_overrides_one_of_the_files_and_the_step_says_so(
    shop: Workspace,
) -> None:
    assert place(shop) == "files.internal:5432" and not rendered(shop).notes
    store(shop)
    found = rendered(shop)
    assert found.env["PLACE"] == "stored.internal:5432"
    assert found.notes == (
        "Connection 'main' is the one stored in the database (version 1); it overrides the one of"
        " the files.",
    )
    connections.remove(shop, "main")
    assert place(shop) == "files.internal:5432"


def test_its_secrets_are_masked_those_it_replaced_too_and_defaults_of_its_type(
    shop: Workspace,
) -> None:
    store(shop)
    mask = masker(rendered(shop).masks)
    for text in ("stored-canary-0815", "file-canary-4711", "default-canary-4711"):
        assert mask.text(f"<{text}>") == f"<{MASK}>"
    assert mask.text("stored.internal") == "stored.internal"


def test_it_is_stored_encrypted(shop: Workspace) -> None:
    row = store(shop)
    assert b"canary" not in bytes(row.sealed) and b"internal" not in bytes(row.sealed)


def test_each_wrong_field_is_told_and_nothing_is_stored(shop: Workspace) -> None:
    assert refused(shop, port="many", mode="perhaps", hots="x", password="abc") == {
        "host": "field 'host' is required",
        "port": "field 'port' must be a whole number, not 'many'",
        "mode": "field 'mode' must be one of require, disable, not 'perhaps'",
        "hots": "field 'hots' is not declared (did you mean 'host'?)",
        "password": "field 'password' must have at least 4 characters, or it cannot be masked",
    }
    assert refused(shop, host="{{ secret.pw }}", password="{{secret.pw}}") == {
        "host": (
            "field 'host' holds a template, and stored values are taken as they are: give the"
            " value itself"
        ),
        "password": (
            "field 'password' holds a template, and stored values are taken as they are: give the"
            " value itself"
        ),
    }
    assert refused(shop, "a b", "dbb", **GIVEN) == {
        "name": "the name of a connection has letters, digits, '_', '-' and '.' only",
        "type": "the files have no connection type 'dbb' (did you mean 'db'?)",
    }
    assert refused(shop, host="h", password=MASK) == {
        "password": "field 'password' has no stored value that could stay"
    }
    assert refused(shop, host="h" * 100_001, password="long enough") == {
        "values": "a connection may have at most 100000 bytes"
    }


def test_one_of_another_type_than_in_the_files_is_refused(shop: Workspace) -> None:
    shop = rewritten(shop, "connection_types:\n", "connection_types:\n  other: {}\n")
    assert "type 'db'; one of type 'other'" in refused(shop, "main", "other")["type"]
    connections.store(shop, "loose", "db", GIVEN, by="a")  # an untyped one fits every type


def test_some_values_change_and_the_others_stay(shop: Workspace) -> None:
    store(shop, port=5433)
    made = connections.store(
        shop, "main", "db", {"password": "another-secret"}, by="b", version=1, adds=True
    )
    assert made.version == 2
    found = revisions.connections_of(shop.current_id)["main"]
    assert (found["host"], found["port"], found["password"]) == (
        "stored.internal", 5433, "another-secret",
    )  # fmt: skip
    connections.store(shop, "main", "db", {"host": "h", "password": MASK}, by="b")
    found = revisions.connections_of(shop.current_id)["main"]
    assert (found["port"], found["password"]) == (5432, "another-secret")


def test_who_has_seen_an_older_version_changes_nothing(shop: Workspace) -> None:
    store(shop)
    for version, said in ((0, "version 1 now, not 0"), (7, "version 1 now, not 7")):
        with pytest.raises(Conflict, match=said):
            connections.store(shop, "main", "db", GIVEN, by="b", version=version)
    connections.remove(shop, "main")
    with pytest.raises(Conflict, match="was removed meanwhile"):
        connections.store(shop, "main", "db", GIVEN, by="b", version=1)
    with pytest.raises(NotFound, match="the one of the files is changed there"):
        connections.remove(shop, "main")


def test_when_its_type_changes_the_workspace_and_its_steps_say_what_to_do(shop: Workspace) -> None:
    store(shop)
    with_user = SHOP.replace("host: files.internal", "host: files.internal, user: u")
    with_user = with_user.replace("mode: {type: string", "user: {type: string, required: true")
    changed = rewritten(shop, SHOP, with_user.replace(", options: [require, disable]", ""))
    (problem,) = changed.problems
    assert problem["message"] == (
        "Connection 'main' of the database: It no longer fits its type (field 'user' is required),"
        " and steps that name it fail: store its values again, or remove it"
    )
    with pytest.raises(Unrenderable, match=r"no longer fits its type \(field 'user' is required\)"):
        rendered(changed)
    connections.store(changed, "main", "db", GIVEN | {"user": "disable"}, by="a")
    changed.refresh_from_db()
    assert changed.problems == [] and place(changed) == "stored.internal:5432"


def test_a_value_that_the_type_drops_is_left_out_told_and_stays_hidden(shop: Workspace) -> None:
    store(shop, key="-----KEY-canary-----")
    changed = rewritten(shop, "    key: {type: text", "    kee: {type: text")
    assert "no longer declares 'key'" in changed.problems[0]["message"]
    found = rendered(changed)
    assert "without 'key', which its type no longer declares" in found.notes[0]
    assert "key" not in found.input["to"]
    assert masker(found.masks).text("-----KEY-canary-----") == MASK


def test_a_type_that_no_longer_calls_a_value_secret_uncovers_nothing(shop: Workspace) -> None:
    store(shop)
    changed = rewritten(shop, "password: {type: string, secret: true", "password: {type: string")
    assert masker(rendered(changed).masks).text("stored-canary-0815") == MASK


def test_a_value_that_was_secret_stays_so_until_it_is_another_one(shop: Workspace) -> None:
    store(shop)
    changed = rewritten(shop, "password: {type: string, secret: true", "password: {type: string")
    connections.store(changed, "main", "db", {"host": "h.internal", "password": MASK}, by="a")
    assert masker(rendered(changed).masks).text("stored-canary-0815") == MASK
    given = {"host": "h.internal", "password": "no secret now"}
    connections.store(changed, "main", "db", given, by="a")
    assert not Entry.objects.filter(changes__icontains="canary").exists()
    assert held(Connection.objects.get().sealed).secret == frozenset()


def test_a_type_that_is_gone_fails_only_what_names_the_connection(shop: Workspace) -> None:
    connections.store(shop, "extra", "db", GIVEN, by="a")
    row = Connection.objects.get(name="extra")
    row.type = "gone"
    row.save()
    revisions.forget_secrets(shop.pk)
    assert place(shop) == "files.internal:5432"
    (one,) = [each for each in _listed(shop) if each.name == "extra"]
    assert "the files no longer have the type 'gone'" in one.trouble


def _listed(shop: Workspace) -> list[connections.Listed]:
    from apps.workspaces.revisions import definition_of

    assert shop.current_id is not None
    return list(connections.connections_in(shop, definition_of(shop.current_id)).values())


def test_a_broken_connection_of_the_files_that_is_replaced_fails_nothing(shop: Workspace) -> None:
    store(shop)
    changed = rewritten(shop, "{{ secret.pw }}", "{{ secret.missing.deeply }}")
    assert place(changed) == "stored.internal:5432"


def test_validate_and_plan_say_what_the_database_has_instead(
    shop: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    store(shop)
    note = "connection 'main' of the database (version 1) overrides the one of the files"
    for command, words in (("validate", ()), ("plan", ("load",)), ("plan", ("load", "--json"))):
        call_command(command, shop.location, *words, "--workspace", "shop")
        said = capsys.readouterr()
        assert note in (said.err if "--json" in words else said.out)
    file = Path(shop.location) / "workflow.yaml"
    file.write_text(file.read_text().replace("port: {type: integer", "port: {type: boolean"))
    connections.store(shop, "main", "db", GIVEN | {"port": 5433}, by="a")
    with pytest.raises(SystemExit):
        call_command("validate", shop.location, "--strict", "--workspace", "shop")
    assert "no longer fits its type (field 'port' must be true or false" in capsys.readouterr().out


def test_looking_whether_something_changed_takes_one_query(
    shop: Workspace, django_assert_num_queries: DjangoAssertNumQueries, monkeypatch: Any
) -> None:
    store(shop)
    revisions.connections_of(shop.current_id)
    monkeypatch.setattr(revisions, "LOOK_AGAIN_S", 0.0)
    with django_assert_num_queries(1):
        revisions.connections_of(shop.current_id)
    monkeypatch.undo()
    with django_assert_num_queries(0):
        revisions.stored_of(shop.current_id)


def test_the_audit_log_hides_what_the_type_calls_secret_now(shop: Workspace) -> None:
    store(shop, mode="disable", key="-----KEY-canary-----")
    changed = rewritten(shop, "mode: {type: string", "mode: {type: string, secret: true")
    connections.store(changed, "main", "db", GIVEN, by="a")
    told = Entry.objects.filter(act="connection.set").latest("pk").changes
    assert told == {"mode": {"changed": True}, "key": {"changed": True}}
