"""The pages of states: who sees them, who restores, and what hostile names do there."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import Client

from apps.accounts.models import Role
from apps.artifacts.models import StateVersion
from apps.artifacts.state import keeping
from apps.workspaces.models import Workspace
from engine.state import Change
from tests.apps.api.callers import user
from tests.apps.jobs.builders import start, workspace

pytestmark = pytest.mark.django_db
FLOW = "tasks: {main: {flow: {a: {type: script, script: 'true'}}}}"
PAGE, GLOBAL = "/admin/state/shop/tasks/main/", "/admin/state/shop/"


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    own = workspace(tmp_path, FLOW, "shop")
    job = start(own)
    for name in ("main", ""):
        for values in ({"n": 1, "<b>x</b>": "<script>alert(1)</script>"}, {"n": 2}):
            opened = keeping.locked(own.pk, name)
            keeping.record(opened, Change(0, values), keeping.Writer("step", job.pk, "a"))
    return own


def client_of(role: Role | None) -> Client:
    person = user(role)
    person.is_staff = True
    person.save()
    client = Client()
    client.force_login(person)
    return client


def test_a_state_is_shown_with_versions_and_their_difference(shop: Workspace) -> None:
    text = client_of(Role.VIEWER).get(PAGE).content.decode()
    for part in ("Version 1", "Version 2", "Version 2 against version 1", "changed", "step a"):
        assert part in text, part
    assert "<script>alert" not in text and "<b>x</b>" not in text
    assert "Restore" not in text
    older = client_of(Role.VIEWER).get(f"{PAGE}?version=1&against=2").content.decode()
    assert "Version 1 against version 2" in older


def test_who_may_run_the_task_restores_and_only_admins_restore_the_workspaces(
    shop: Workspace,
) -> None:
    viewer, operator, admin = (client_of(role) for role in (Role.VIEWER, Role.OPERATOR, Role.ADMIN))
    assert viewer.post(f"{PAGE}restore/", {"version": "1"}).status_code == 403
    assert operator.post(f"{GLOBAL}restore/", {"version": "1"}).status_code == 403
    assert StateVersion.objects.count() == 4
    assert "Restore version 1" in operator.get(f"{PAGE}?version=1").content.decode()
    told = operator.post(f"{PAGE}restore/", {"version": "1"}, follow=True).content.decode()
    assert "Version 1 is back, as version 3." in told
    told = admin.post(f"{GLOBAL}restore/", {"version": "9"}, follow=True).content.decode()
    assert "Version 9 of this state is not kept." in told
    assert operator.get(f"{PAGE}restore/").status_code == 405


def test_the_pages_of_task_and_workspace_lead_there(shop: Workspace) -> None:
    client = client_of(Role.VIEWER)
    assert PAGE in client.get("/admin/tasks/shop/main/").content.decode()
    page = client.get(f"/admin/workspaces/workspace/{shop.pk}/change/").content.decode()
    assert f'"{GLOBAL}"' in page


def test_strangers_and_wrong_addresses_find_nothing(shop: Workspace) -> None:
    for path in (PAGE, GLOBAL):
        assert client_of(None).get(path).status_code == 404
        assert Client().get(path).status_code == 302
    client = client_of(Role.VIEWER)
    for path in ("/admin/state/other/", f"{PAGE}?version=77"):
        assert client.get(path).status_code == 404
    empty = client.get("/admin/state/shop/tasks/unknown/").content.decode()
    assert "Nothing has been remembered yet" in empty
