"""People and groups, as administrators manage them through the API."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group
from rest_framework.test import APIClient

from apps.accounts.models import Role, User, WorkspaceGrant
from tests.apps.api.callers import client_of, error, user

pytestmark = pytest.mark.django_db


@pytest.fixture
def root() -> User:
    return user(is_superuser=True)


@pytest.fixture
def client(root: User) -> APIClient:
    return client_of(root)


def add(client: APIClient, **given: Any) -> Any:
    return client.post("/api/users", given, format="json")


def test_a_person_is_added_without_a_password(client: APIClient) -> None:
    answer = add(client, email=" new@example.org ", name="New One", groups=["ops", "data"])
    person = User.objects.get(email="new@example.org")
    assert (answer.status_code, answer.json()) == (
        200,
        {
            "user_id": person.pk,
            "email": "new@example.org",
            "name": "New One",
            "groups": ["data", "ops"],
            "is_admin": False,
        },
    )
    assert not person.has_usable_password()
    shown = client.get(f"/api/users/{person.pk}").json()
    assert set(shown) == {
        "user_id", "email", "name", "groups", "is_admin", "is_active", "auth_methods",
        "created_at", "last_login_at",
    }  # fmt: skip
    assert (shown["auth_methods"], shown["last_login_at"]) == ([], None)


def test_what_is_wrong_with_a_new_person_is_said(client: APIClient, root: User) -> None:
    for given, status, text in (
        ({"email": "nobody"}, 400, "A valid email address is required"),
        (
            {"email": "a@example.org", "groups": [" "]},
            400,
            "Group name must be 1-64 characters: ''",
        ),
        (
            {"email": "a@example.org", "groups": ["a b"]},
            400,
            "Group name contains invalid characters (only alphanumeric, _, - allowed): 'a b'",
        ),
        (
            {"email": root.email.upper()},
            409,
            f"User with email '{root.email.upper()}' already exists",
        ),
        (
            {"email": "a@example.org", "admin": True},
            400,
            "Unknown key 'admin'; did you mean 'is_admin'?",
        ),
    ):
        answer = add(client, **given)
        assert (answer.status_code, error(answer)) == (status, text)
    assert User.objects.count() == 1
    assert Group.objects.count() == 0


def test_the_list_is_a_page_in_order_of_email(client: APIClient) -> None:
    for name in "cab":
        add(client, email=f"{name}@example.org")
    page = client.get("/api/users?limit=2&offset=1").json()
    assert page["total"] == 4
    assert [item["email"] for item in page["items"]] == ["b@example.org", "c@example.org"]


def test_the_list_asks_as_many_queries_for_many_people(
    client: APIClient, django_assert_num_queries: Any
) -> None:
    for number in range(20):
        add(client, email=f"n{number}@example.org", groups=["ops", f"g{number}"])
    with django_assert_num_queries(4):
        assert len(client.get("/api/users").json()["items"]) == 21


def test_administrators_are_made_and_unmade_but_nobody_locks_themselves_out(
    client: APIClient, root: User
) -> None:
    other = user()
    path = f"/api/users/{other.pk}/admin"
    assert client.put(path, {"is_admin": True}, format="json").json() == {"status": "ok"}
    assert client_of(other).get("/api/users").status_code == 200
    assert client.put(path, {"is_admin": False}, format="json").status_code == 200
    assert client_of(other).get("/api/users").status_code == 403
    answer = client.put(f"/api/users/{root.pk}/admin", {"is_admin": False}, format="json")
    assert (answer.status_code, error(answer)) == (400, "Cannot revoke your own admin status")
    assert User.objects.get(pk=root.pk).is_superuser


def test_groups_give_and_take_rights_at_once(client: APIClient) -> None:
    other = user()
    WorkspaceGrant.objects.create(
        group=Group.objects.create(name="ops"), pattern="*", role=Role.VIEWER
    )
    path = f"/api/users/{other.pk}/groups"
    assert client.put(path, {"groups": ["ops", "new"]}, format="json").json() == {"status": "ok"}
    assert client.get(path).json() == {"groups": ["new", "ops"]}
    assert client.get("/api/groups").json() == {"groups": ["new", "ops"]}
    other.refresh_from_db()  # tokens of before are over
    assert client_of(other).get("/api/auth/me").json()["groups"] == ["new", "ops"]
    refused = client.put(path, {"groups": ["ops", "ä"]}, format="json")
    assert refused.status_code == 400
    assert refused.json()["code"] == "invalid_input"
    assert set(refused.json()["fields"]) == {"groups"}
    assert client.put(path, {"groups": []}, format="json").status_code == 200
    assert client.get(path).json() == {"groups": []}


@pytest.mark.parametrize(
    ("number", "status", "text"),
    [
        ("x", 400, "Invalid user ID"),
        ("9" * 30, 400, "Invalid user ID"),
        ("0", 404, "User not found"),
    ],
)
def test_a_wrong_id_is_refused(client: APIClient, number: str, status: int, text: str) -> None:
    for path in (f"/api/users/{number}", f"/api/users/{number}/groups"):
        answer = client.get(path)
        assert (answer.status_code, error(answer)) == (status, text)
