"""A browser left open, or a token that leaked, gives no program a key: that takes a sign-in of the
last minutes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db.models import F
from django.test import Client

from apps.accounts import devices, sessions, tokens
from apps.accounts.models import ApiToken, DeviceLogin, RefreshToken, User
from apps.accounts.people import add_service
from tests.apps.api.callers import PASSWORD, user

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)
KEYS = "/api/auth/api-keys"
AGAIN = "sign_in_again"


@pytest.fixture
def root() -> User:
    return user(is_superuser=True)


@pytest.fixture
def browser(root: User) -> Client:
    client = Client()
    client.force_login(root)
    return client


def age(browser: Client, seconds: float = sessions.FRESH_S + 1) -> None:
    """So much time passes since the sign-in."""
    session = browser.session
    session[sessions.AT] -= seconds
    session.save()


def led_to(answer: Any) -> str:
    """Where the page of signing in leads, after that."""
    parts = urlsplit(answer["Location"])
    assert (answer.status_code, parts.path) == (302, "/admin/login/"), answer.content
    query = parse_qs(parts.query)
    assert query["again"] == ["1"]
    return query["next"][0]


def test_an_old_session_confirms_no_code_before_it_signs_in_again(
    browser: Client, root: User
) -> None:
    asked = devices.ask("laptop", "192.0.2.1", ["admin"], NOW)
    page = f"/admin/device/?code={asked.code}"
    age(browser)
    assert led_to(browser.get(page)) == page
    yes = {"code": asked.code, "answer": "yes"}
    assert led_to(browser.post("/admin/device/", yes)) == page
    assert DeviceLogin.objects.get().user is None
    told = browser.get("/admin/login/?again=1").content.decode()
    assert "Sign in again to sign in a program." in told
    assert f'value="{root.email}"' in told and "Not now" in told
    given = {"username": root.email, "password": PASSWORD, "next": page}
    assert browser.post("/admin/login/", given)["Location"] == page
    assert "is signed in" in browser.post("/admin/device/", yes).content.decode()


def test_so_does_one_without_a_password(browser: Client) -> None:
    """Of somebody who signs in at a provider: they are not shut out."""
    person = User.objects.create_user("sso@example.org")
    browser.force_login(person)
    age(browser)
    assert led_to(browser.get("/admin/device/")) == "/admin/device/?code="


def test_an_old_session_makes_no_key_and_no_new_secret_on_pages(
    browser: Client, root: User
) -> None:
    add = "/admin/accounts/apitoken/add/"
    _, row = tokens.make_key(root, "ci")
    change = f"/admin/accounts/apitoken/{row.pk}/change/"
    digest = row.digest
    age(browser)
    assert led_to(browser.get(add)) == add
    given = {"user": root.pk, "name": "k", "scopes": ["admin"]}
    assert led_to(browser.post(add, given)) == add
    rotate = f"/admin/accounts/apitoken/{row.pk}/rotate/"
    assert led_to(browser.post(rotate, {"overlap": "0"})) == change
    row.refresh_from_db()
    assert (row.digest, ApiToken.objects.count()) == (digest, 1)
    assert browser.get(change).status_code == 200, "looking is no making"


def test_nor_does_it_in_the_api(browser: Client, root: User) -> None:
    add_service("ci", ())
    addresses = (KEYS, "/api/service-accounts/ci/api-keys")
    assert [_made(browser, each).status_code for each in addresses] == [200, 200]
    age(browser)
    for each in addresses:
        refused = _made(browser, each)
        assert (refused.status_code, refused.json()["code"]) == (403, AGAIN)
        assert "sign in again" in refused.json()["error"]
        (row,) = browser.get(each).json()
        again = browser.post(f"{each}/{row['prefix']}/rotate", {}, "application/json")
        assert again.json()["code"] == AGAIN
    assert ApiToken.objects.count() == 2


def _made(browser: Client, address: str, **more: Any) -> Any:
    return browser.post(address, {"name": "k"}, "application/json", **more)


def test_new_access_tokens_are_as_old_as_the_sign_in_they_come_from(root: User) -> None:
    pair = tokens.begin_chain(root, NOW)
    later = tokens.rotate(pair.refresh, NOW)
    held = {"HTTP_AUTHORIZATION": f"Bearer {later.access}"}
    assert _made(Client(), KEYS, **held).status_code == 200
    old = F("created_at") - timedelta(seconds=sessions.FRESH_S)
    RefreshToken.objects.exclude(used_at=None).update(created_at=old)  # the first of the chain
    refused = _made(Client(), KEYS, **held)
    assert (refused.status_code, refused.json()["code"]) == (403, AGAIN)
    anew = tokens.begin_chain(root, NOW)
    held = {"HTTP_AUTHORIZATION": f"Bearer {anew.access}"}
    assert _made(Client(), KEYS, **held).status_code == 200
