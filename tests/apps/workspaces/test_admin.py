"""Admin pages of workspaces, secrets and accounts: who may open them, and what they never show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from apps.accounts.models import Role, User, WorkspaceGrant
from apps.workspaces import revisions, secrets, services
from apps.workspaces.models import Secret, Workspace

pytestmark = pytest.mark.django_db
CANARY = "canary-4711-value"
PAGES = [
    "/admin/",
    "/admin/workspaces/workspace/",
    "/admin/workspaces/secret/",
    "/admin/accounts/user/",
    "/admin/accounts/workspacegrant/",
    "/admin/accounts/apitoken/",
    "/admin/auth/group/",
]


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def person(role: Role | None = None, pattern: str = "shop", **fields: Any) -> User:
    user = User.objects.create_user(
        f"u{User.objects.count()}@example.org", **{"is_staff": True, **fields}
    )
    if role:
        WorkspaceGrant.objects.create(user=user, pattern=pattern, role=role)
    return user


@pytest.fixture
def shop(tmp_path: Path) -> Workspace:
    (tmp_path / "flow.yaml").write_text(f"secrets: {{file_pw: {CANARY}}}\n")
    return services.import_folder("shop", tmp_path)


@pytest.fixture
def root() -> Client:
    return client_of(User.objects.create_superuser("root@example.org"))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_for_a_superuser_and_shows_no_secret(
    root: Client, shop: Workspace, page: str
) -> None:
    secrets.store_secret(shop, "pw", CANARY, by="x")
    answer = root.get(page)
    assert answer.status_code == 200
    assert CANARY.encode() not in answer.content


@pytest.mark.parametrize("page", PAGES[3:])
def test_accounts_are_for_superusers_even_when_permissions_were_given(page: str) -> None:
    from django.contrib.auth.models import Permission

    user = person(Role.ADMIN, "*")
    user.user_permissions.set(Permission.objects.all())
    assert client_of(user).get(page).status_code == 403


def test_a_secret_is_written_changed_and_never_read(root: Client, shop: Workspace) -> None:
    add = "/admin/workspaces/secret/add/"
    assert root.post(add, {"workspace": shop.pk, "name": "pw", "value": CANARY}).status_code == 302
    row = Secret.objects.get()
    assert row.updated_by == "root@example.org"
    page = f"/admin/workspaces/secret/{row.pk}/change/"
    assert CANARY not in root.get(page).content.decode()
    assert root.post(page, {"value": "another-value"}).status_code == 302
    assert revisions.secrets_of(shop.current_id)["pw"] == "another-value"
    refused = root.post(page, {"value": "abc"})
    assert "at least 4 characters" in refused.content.decode()
    assert 'value="abc"' not in refused.content.decode()
    assert CANARY not in str(list(LogEntry.objects.values()))
    assert (
        root.post(f"/admin/workspaces/secret/{row.pk}/delete/", {"post": "yes"}).status_code == 302
    )
    assert "pw" not in revisions.secrets_of(shop.current_id)


def test_a_name_that_no_template_can_say_is_refused_in_the_form(
    root: Client, shop: Workspace
) -> None:
    answer = root.post(
        "/admin/workspaces/secret/add/", {"workspace": shop.pk, "name": "a-b", "value": CANARY}
    )
    assert "may contain only letters" in answer.content.decode()
    assert CANARY not in answer.content.decode()
    assert not Secret.objects.exists()


def test_secrets_are_for_the_admins_of_their_workspace(shop: Workspace) -> None:
    secrets.store_secret(shop, "pw", CANARY, by="x")
    page = f"/admin/workspaces/secret/{Secret.objects.get().pk}/change/"
    assert client_of(person(Role.ADMIN)).get(page).status_code == 200
    assert client_of(person(Role.OPERATOR)).get(page).status_code in (302, 403)
    assert client_of(person(Role.ADMIN, "other")).get(page).status_code in (302, 403)
    stranger = person(Role.ADMIN, "other")
    other = Workspace.objects.create(name="other", source="folder", location="/x")
    answer = client_of(stranger).post(
        "/admin/workspaces/secret/add/", {"workspace": shop.pk, "name": "x", "value": CANARY}
    )
    assert answer.status_code == 200  # the form again: this workspace is not offered
    assert Secret.objects.count() == 1
    assert other.name in client_of(stranger).get("/admin/workspaces/secret/add/").content.decode()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("readers")
def test_a_workspace_shows_its_problems_and_is_refreshed_by_its_admins(shop: Workspace) -> None:
    Path(shop.location, "flow.yaml").write_text("tasks: [<script>\n")
    data = {"action": "refresh", "_selected_action": [shop.pk]}
    viewer, admin = client_of(person(Role.VIEWER)), client_of(person(Role.ADMIN))
    viewer.post("/admin/workspaces/workspace/", data)
    shop.refresh_from_db()
    assert not shop.has_failed
    admin.post("/admin/workspaces/workspace/", data)
    page = admin.get(f"/admin/workspaces/workspace/{shop.pk}/change/").content.decode()
    assert "flow.yaml:" in page
    assert "<script>\n" not in page
    assert client_of(person()).get(
        f"/admin/workspaces/workspace/{shop.pk}/change/"
    ).status_code in (302, 403)


def test_the_source_of_a_workspace_cannot_be_edited(root: Client, shop: Workspace) -> None:
    page = f"/admin/workspaces/workspace/{shop.pk}/change/"
    assert (
        root.post(page, {"location": "/etc", "source": "folder", "name": "shop"}).status_code == 403
    )
    assert root.get("/admin/workspaces/workspace/add/").status_code == 403
    shop.refresh_from_db()
    assert shop.location != "/etc"


def test_a_user_is_made_with_a_grant(root: Client) -> None:
    answer = root.post(
        "/admin/accounts/user/add/",
        {
            "email": "new@example.org",
            "usable_password": "true",
            "password1": "correct horse battery",
            "password2": "correct horse battery",
            "grants-TOTAL_FORMS": "0",
            "grants-INITIAL_FORMS": "0",
        },
    )
    assert answer.status_code == 302, answer.content.decode()[:2000]
    user = User.objects.get(email="new@example.org")
    assert user.check_password("correct horse battery")
    assert root.get(f"/admin/accounts/user/{user.pk}/change/").status_code == 200
    assert root.get(f"/admin/accounts/user/{user.pk}/password/").status_code == 200
