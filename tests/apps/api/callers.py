"""Callers: users with a role, and clients with a bearer token."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

from rest_framework.test import APIClient

from apps.accounts import tokens
from apps.accounts.models import Role, User, WorkspaceGrant

_numbers = itertools.count()
PASSWORD = "correct horse battery"


def user(role: Role | None = None, pattern: str = "*", *, is_superuser: bool = False) -> User:
    email = f"u{next(_numbers)}@example.org"
    made = User.objects.create_user(
        email, PASSWORD, is_superuser=is_superuser, is_staff=is_superuser
    )
    if role is not None:
        WorkspaceGrant.objects.create(user=made, pattern=pattern, role=role)
    return made


def client_of(person: User | None) -> APIClient:
    client = APIClient(raise_request_exception=False)
    if person is not None:
        client.credentials(
            HTTP_AUTHORIZATION=f"Bearer {tokens.issue_access(person, datetime.now(UTC))}"
        )
    return client


def caller(
    role: Role | None = None, pattern: str = "*", *, is_superuser: bool = False
) -> APIClient:
    return client_of(user(role, pattern, is_superuser=is_superuser))


def error(answer: Any) -> str:
    assert set(answer.json()) <= {"error", "code", "fields", "retry_after_secs"}, answer.content
    assert answer.json()["code"]
    return str(answer.json()["error"])
