"""People make and end their own keys on pages, and end the agents that they have let in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from rest_framework.test import APIClient

from apps.accounts import tokens
from apps.accounts.models import ApiToken, ConnectedAgent, Role, User
from tests.apps.accounts.test_fresh import age, led_to
from tests.apps.api.callers import user

pytestmark = pytest.mark.django_db
PAGE, NEW = "/admin/keys/", "/admin/keys/new/"
NOW = datetime.now(UTC)


@pytest.fixture
def ada() -> User:
    made = user(Role.OPERATOR)
    made.is_staff = True
    made.save()
    return made


@pytest.fixture
def browser(ada: User) -> Client:
    client = Client()
    client.force_login(ada)
    return client


def test_a_person_makes_a_key_that_is_shown_once_and_revokes_it(browser: Client, ada: User) -> None:
    assert "None yet." in browser.get(PAGE).content.decode()
    assert "Make the key" in browser.get(NEW).content.decode()
    given = {"name": "laptop", "scopes": ["jobs:run"], "workspaces": "data-* web", "days": "7"}
    answer = browser.post(NEW, given)
    assert "no-store" in answer["Cache-Control"]
    key = re.findall(r"strm_[0-9a-f]{64}", answer.content.decode())[0]
    row = ApiToken.objects.get()
    assert (row.user, row.scopes, row.workspaces) == (ada, ["jobs:run"], ["data-*", "web"])
    program = APIClient()
    program.credentials(HTTP_AUTHORIZATION=f"Bearer {key}")
    assert program.get("/api/auth/me").json()["email"] == ada.email
    listed = browser.get(PAGE).content.decode()
    assert "laptop" in listed and row.prefix in listed and key not in listed
    assert browser.post(f"{PAGE}{row.pk}/revoke/")["Location"] == PAGE
    assert program.get("/api/auth/me").status_code == 401


def test_what_is_wrong_is_told_at_its_field(browser: Client) -> None:
    given = {"name": "", "scopes": [], "workspaces": "a b", "days": "0"}
    answer = browser.post(NEW, given)
    assert {"name", "scopes", "days"} <= set(answer.context["form"].errors)
    assert not ApiToken.objects.exists()


def test_an_old_session_signs_in_again_first(browser: Client) -> None:
    age(browser)
    assert led_to(browser.get(NEW)) == NEW
    assert led_to(browser.post(NEW, {"name": "k", "scopes": ["admin"]})) == NEW
    assert browser.get(PAGE).status_code == 200 and not ApiToken.objects.exists()


def test_nobody_sees_or_ends_what_belongs_to_others(browser: Client, ada: User) -> None:
    other = user()
    _, key = tokens.make_key(other, "theirs")
    agents = [
        ConnectedAgent.objects.create(
            user=one, grant=one.email, client_id="c", name=f"bot of {one.email}", expires_at=NOW
        )
        for one in (ada, other)
    ]
    text = browser.get(PAGE).content.decode()
    assert "theirs" not in text and f"bot of {ada.email}" in text and other.email not in text
    assert browser.post(f"{PAGE}{key.pk}/revoke/").status_code == 404
    assert browser.post(f"{PAGE}agents/{agents[1].pk}/end/").status_code == 404
    assert browser.post(f"{PAGE}agents/{agents[0].pk}/end/").status_code == 302
    assert [row.user for row in ConnectedAgent.objects.all()] == [other]
    assert ApiToken.objects.count() == 1


def test_a_key_that_has_expired_says_so(browser: Client, ada: User) -> None:
    tokens.make_key(ada, "old", NOW - timedelta(days=1))
    assert "expired" in browser.get(PAGE).content.decode()
