"""The API's table once more, by rights instead of roles: who has all of them but the one that a route
takes is refused, and so is who must not see the task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.accounts.models import Role, WorkspaceGrant
from engine.rights import Right
from tests.apps.api.callers import client_of, user
from tests.apps.api.test_access import IN_VAIN, TABLE, World, make_world

pytestmark = pytest.mark.django_db
OF_ROLE = {Role.VIEWER: Right.SEE, Role.OPERATOR: Right.RUN, Role.ADMIN: Right.MANAGE}
# What differs from the rights that first come with the role, by a part of the route.
SPECIAL = {
    "/artifacts": Right.INPUTS,
    "/transcript": Right.INPUTS,  # and logs
    "/logs": Right.LOGS,
    "/secrets": Right.SECRETS,
    "/approve": Right.APPROVE,
    "/delegate": Right.APPROVE,
}
OF_TASK = ("<str:job>", "tasks/<str:task>", "<str:trigger>")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def right_of(row: tuple[str, str]) -> Right:
    method, route = row
    for part, right in SPECIAL.items():
        if part in route:
            return right
    if "/connections" in route and TABLE[row] is Role.ADMIN:
        return Right.SECRETS
    if "state" in route and method == "get":
        return Right.INPUTS
    return OF_ROLE[TABLE[row]]


ROWS = {row: right_of(row) for row in sorted(TABLE, key=str) if TABLE[row] in OF_ROLE}


def caller(*rights: Right, denied: str = "") -> APIClient:
    person = user()
    if rights:
        WorkspaceGrant.objects.create(
            user=person, pattern="*", role=Role.CUSTOM, rights=list(rights)
        )
    if denied:
        WorkspaceGrant.objects.create(user=person, pattern="*", tasks=denied, role=Role.DENY)
    return client_of(person)


def test_without_its_right_a_route_is_refused_and_without_sight_it_is_not_there(
    world: World,
) -> None:
    lacking = {
        right: caller(*(() if right is Right.SEE else [one for one in Right if one is not right]))
        for right in Right
    }
    unseen = caller(*Right, denied="main")
    wrong = []
    for row, right in ROWS.items():
        said = world.call(lacking[right], *row)
        if said.status_code != (404 if right is Right.SEE else 403) or not said.json()["error"]:
            wrong.append((row, f"all but {right}", said.status_code))
        if any(part in row[1] for part in OF_TASK):
            said = world.call(unseen, *row)
            if said.status_code != 404:
                wrong.append((row, "denied on the task", said.status_code))
    assert not wrong, "\n".join(map(str, wrong))


def test_its_right_alone_opens_what_is_only_read(world: World) -> None:
    holders: dict[Right, Any] = {right: caller(right) for right in Right}
    wrong = []
    for row, right in ROWS.items():
        tells = "subscriptions" in row[1] or row[1] in IN_VAIN
        if row[0] == "get" and not tells:
            said = world.call(holders[right], *row)
            if said.status_code != 200:
                wrong.append((row, f"only {right}", said.status_code))
    assert not wrong, "\n".join(map(str, wrong))
