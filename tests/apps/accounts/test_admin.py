"""The pages of keys, groups and grants."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from apps.accounts.models import ApiToken, User, WorkspaceGrant
from apps.workspaces.models import Workspace

pytestmark = pytest.mark.django_db
ADD_KEY = "/admin/accounts/apitoken/add/"
MATCHING = "/admin/workspaces/workspace/matching/"


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def root() -> Client:
    return client_of(User.objects.create_superuser("root@example.org"))


@pytest.fixture
def robot() -> User:
    return User.objects.create_user("robot@example.org", is_staff=False)


def test_a_superuser_makes_a_key_for_an_account_and_sees_it_once(root: Client, robot: User) -> None:
    assert root.get(ADD_KEY).status_code == 200
    given = {"user": robot.pk, "name": "nightly", "days": "30", "scopes": ["jobs:read"]}
    answer = root.post(ADD_KEY, {**given, "workspaces": "data-*, web"})
    assert answer.status_code == 200 and "no-store" in answer["Cache-Control"]
    key = re.search(r"strm_[0-9a-f]{64}", answer.content.decode())
    assert key
    row = ApiToken.objects.get()
    assert (row.user, row.name) == (robot, "nightly")
    assert (row.scopes, row.workspaces) == (["jobs:read"], ["data-*", "web"])
    assert row.expires_at is not None
    assert abs(row.expires_at - timezone.now() - timedelta(days=30)) < timedelta(minutes=5)
    me = Client().get("/api/auth/me", headers={"Authorization": f"Bearer {key[0]}"})
    assert (me.status_code, me.json()["email"]) == (200, robot.email)
    for page in ("/admin/accounts/apitoken/", f"/admin/accounts/apitoken/{row.pk}/change/"):
        text = root.get(page).content.decode()
        assert row.prefix in text and key[0] not in text


@pytest.mark.parametrize(
    "given",
    [
        {"name": "x"},
        {"user": 0, "name": "x"},
        {"days": "0"},
        {"days": "1", "scopes": []},
        {"days": "1", "scopes": ["everything"]},
        {"days": "1", "workspaces": "a/b"},
        {},
    ],
)
def test_a_key_without_owner_name_or_a_sensible_end_is_not_made(
    root: Client, robot: User, given: dict[str, Any]
) -> None:
    made = {"user": robot.pk, "name": "x", "days": "", "scopes": ["admin"]}
    whole = made if "days" in given else {}
    answer = root.post(ADD_KEY, whole | given)
    assert answer.status_code == 200 and "strm_" not in answer.content.decode()
    assert not ApiToken.objects.exists()


def test_nobody_else_makes_one(robot: User) -> None:
    ada = User.objects.create_user("ada@example.org")
    WorkspaceGrant.objects.create(user=ada, pattern="*", role="admin")
    assert client_of(ada).post(ADD_KEY, {"user": robot.pk, "name": "x"}).status_code == 403
    assert client_of(ada).get(f"{MATCHING}?pattern=*").status_code == 403
    assert not ApiToken.objects.exists()


def test_the_page_of_a_group_lists_its_members_and_the_list_counts_them(
    root: Client, robot: User
) -> None:
    group = Group.objects.create(name="ops")
    page = f"/admin/auth/group/{group.pk}/change/"
    assert "None yet" in root.get(page).content.decode()
    robot.groups.add(group)
    text = root.get(page).content.decode()
    assert f'<a href="/admin/accounts/user/{robot.pk}/change/">{robot.email}</a>' in text
    assert root.post(page, {
        "name": "operators", "grants-TOTAL_FORMS": "0", "grants-INITIAL_FORMS": "0",
    }).status_code == 302  # fmt: skip
    assert list(group.user_set.all()) == [robot]


def test_a_pattern_is_explained_and_what_it_matches_is_shown(root: Client) -> None:
    for name in ("data-eu", "data-us", "web", "data.x"):
        Workspace.objects.create(name=name, source="folder", location="/x")
    group = Group.objects.create(name="ops")
    for page in ("/admin/accounts/workspacegrant/add/", f"/admin/auth/group/{group.pk}/change/"):
        text = root.get(page).content.decode()
        assert "data-* matches data-eu and data-us" in text
        assert f'data-preview="{MATCHING}"' in text and "adminkit/preview.js" in text
    for pattern, sentence in (
        ("data-*", "Matches data-eu, data-us."),
        ("*", "Matches data-eu, data-us, data.x, web."),
        ("data-?u", "Matches no workspace so far."),
        ("", "Matches no workspace so far."),
    ):
        assert root.get(MATCHING, {"pattern": pattern}).json() == {"sentence": sentence}


def test_a_grant_needs_exactly_one_holder(root: Client, robot: User) -> None:
    group = Group.objects.create(name="ops")
    page = "/admin/accounts/workspacegrant/add/"
    for holders in ({}, {"user": robot.pk, "group": group.pk}):
        answer = root.post(page, {"pattern": "*", "role": "viewer", **holders})
        assert "exactly one of them" in answer.content.decode()
    assert not WorkspaceGrant.objects.exists()
    assert root.post(page, {"pattern": "*", "role": "viewer", "group": group.pk}).status_code == 302
    assert WorkspaceGrant.objects.get().group == group


def test_a_short_password_is_refused_on_the_pages(root: Client, tmp_path: Path) -> None:
    given = {"email": "ada@example.org", "password1": "Xy7!k", "password2": "Xy7!k"}
    answer = root.post("/admin/accounts/user/add/", given)
    assert "at least 10 characters" in answer.content.decode()
    assert not User.objects.filter(email="ada@example.org").exists()
