"""What a sign-in gave ends with a change of groups, whoever changes them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from apps.accounts import people, tokens
from apps.accounts.errors import TokenRefused
from apps.accounts.models import User

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)


def by_pages(user: User, group: Group) -> None:
    root = Client()
    root.force_login(User.objects.create_superuser("root@example.org", "correct horse battery"))
    form: dict[str, Any] = {"email": user.email, "groups": [group.pk]}
    form |= {"is_active": "on", "is_staff": "on"}
    inline = {"grants-TOTAL_FORMS": "0", "grants-INITIAL_FORMS": "0"}
    answer = root.post(f"/admin/accounts/user/{user.pk}/change/", form | inline)
    assert answer.status_code == 302, answer.content[-500:]


@pytest.mark.parametrize(
    "change",
    [
        lambda user, group: people.set_groups(user, [group.name]),
        lambda user, group: group.user_set.add(user),
        by_pages,
    ],
)
def test_new_groups_end_sessions_and_refresh_tokens_and_no_key(
    change: Callable[[User, Group], None],
) -> None:
    user = User.objects.create_user("ada@example.org", "correct horse battery")
    group, browser = Group.objects.create(name="ops"), Client()
    browser.force_login(user)
    pair, (key, _) = tokens.begin_chain(user, NOW), tokens.make_key(user, "ci")
    assert browser.get("/admin/tasks/").status_code == 200
    change(user, group)
    assert user.groups.count() == 1
    assert browser.get("/admin/tasks/").status_code == 302
    for use in (
        lambda: tokens.user_of_access(pair.access),
        lambda: tokens.rotate(pair.refresh, NOW),
    ):
        with pytest.raises(TokenRefused):
            use()
    assert tokens.user_of_key(key, NOW) == user  # its rights follow the groups anyway


@pytest.mark.parametrize("how", ["taken", "deleted"])
def test_a_lost_group_ends_the_session(how: str) -> None:
    user, group = User.objects.create_user("ada@example.org"), Group.objects.create(name="ops")
    user.groups.add(group)
    user.refresh_from_db()
    browser = Client()
    browser.force_login(user)
    if how == "taken":
        user.groups.clear()
    else:
        group.delete()
    assert browser.get("/admin/tasks/").status_code == 302


def test_the_same_groups_again_end_nothing() -> None:
    user = User.objects.create_user("ada@example.org")
    people.set_groups(user, ["ops"])
    user.refresh_from_db()
    pair = tokens.begin_chain(user, NOW)
    people.set_groups(user, ["ops"])
    assert tokens.user_of_access(pair.access) == user


def test_sessions_of_before_the_epoch_stay_good() -> None:
    user = User(email="ada@example.org", password="x", epoch=0)
    plain = super(User, user)._get_session_auth_hash()
    assert user.get_session_auth_hash() == plain
    assert user.standing == user.credential
