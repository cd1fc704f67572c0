"""Signing in a program without a browser, with a code that a person confirms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from rest_framework.test import APIClient

from apps.accounts import devices
from apps.accounts.devices import Waiting
from apps.accounts.models import ApiToken, DeviceLogin, Role, User
from apps.audit.models import Entry
from apps.conductor.services import tidy
from engine.errors import NotFound
from tests.apps.api.callers import user

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)
PAGE = "/admin/device/"


@pytest.fixture
def ada() -> User:
    made = user(Role.OPERATOR)
    User.objects.filter(pk=made.pk).update(is_staff=True)
    made.refresh_from_db()
    return made


@pytest.fixture
def browser(ada: User) -> Client:
    client = Client()
    client.force_login(ada)
    return client


def begin(**given: Any) -> dict[str, Any]:
    answer = APIClient().post("/api/auth/device", given, format="json")
    assert answer.status_code == 200, answer.content
    return dict(answer.json())


def poll(asked: dict[str, Any]) -> Any:
    return APIClient().post(
        "/api/auth/device/token", {"device_code": asked["device_code"]}, format="json"
    )


def later(seconds: int) -> None:
    """As if so much time had passed."""
    for row in DeviceLogin.objects.all():
        row.expires_at -= timedelta(seconds=seconds)
        row.polled_at = row.polled_at and row.polled_at - timedelta(seconds=seconds)
        row.save()


def test_a_confirmed_code_brings_a_key_once(browser: Client, ada: User) -> None:
    asked = begin(client_name="laptop\nof eve", scopes=["jobs:run"])
    assert set(asked) == {
        "device_code", "user_code", "verification_uri", "verification_uri_complete",
        "expires_in", "interval",
    }  # fmt: skip
    assert asked["verification_uri_complete"].endswith(f"{PAGE}?code={asked['user_code']}")
    assert poll(asked).json()["code"] == "authorization_pending"
    text = browser.get(PAGE, {"code": asked["user_code"].lower()}).content.decode()
    assert "laptop of eve" in text and "jobs:run" in text and "127.0.0.1" in text
    yes = {"code": asked["user_code"], "answer": "yes"}
    assert "is signed in" in browser.post(PAGE, yes).content.decode()
    given = poll(asked).json()
    assert (given["token_type"], given["expires_in"]) == ("Bearer", 90 * 24 * 3600)
    program = APIClient()
    program.credentials(HTTP_AUTHORIZATION=f"Bearer {given['access_token']}")
    assert program.get("/api/auth/me").json()["email"] == ada.email
    assert ApiToken.objects.get().scopes == ["jobs:run"]
    assert poll(asked).json()["code"] == "expired_token"
    assert ApiToken.objects.count() == 1
    acts = Entry.objects.filter(actor=ada.email).order_by("id").values_list("act", "via")
    assert list(acts)[-2:] == [("device.confirm", "page"), ("api-key.add", "api")]
    kept = str(list(Entry.objects.values())) + str(list(DeviceLogin.objects.values()))
    assert given["access_token"] not in kept and asked["device_code"] not in kept


def test_a_code_is_answered_once(browser: Client, ada: User) -> None:
    asked = begin()
    row = devices.found(asked["user_code"])
    assert (
        "is not signed in"
        in browser.post(PAGE, {"code": asked["user_code"], "answer": "no"}).content.decode()
    )
    with pytest.raises(NotFound):
        devices.answer(row, ada, confirmed=True)
    assert "no such code" in browser.get(PAGE, {"code": asked["user_code"]}).content.decode()
    assert poll(asked).json()["code"] == "access_denied"
    assert not ApiToken.objects.exists()


def test_who_asks_too_often_is_told_to_slow_down() -> None:
    asked = begin()
    assert [poll(asked).json()["code"] for _ in range(2)] == ["authorization_pending", "slow_down"]
    later(6)
    assert poll(asked).json()["code"] == "authorization_pending"


def test_a_code_ends_after_ten_minutes(browser: Client) -> None:
    asked = begin()
    later(601)
    assert "no such code" in browser.get(PAGE, {"code": asked["user_code"]}).content.decode()
    assert poll(asked).json()["code"] == "expired_token"
    later(120)
    tidy()
    assert not DeviceLogin.objects.exists()


def test_a_new_password_or_a_closed_account_ends_what_was_confirmed(ada: User) -> None:
    for change in ("password", "is_active"):
        asked = devices.ask("laptop", "192.0.2.1", ["admin"], NOW)
        devices.answer(devices.found(asked.code), ada, confirmed=True)
        if change == "password":
            ada.set_password("another horse battery")
        ada.is_active = change == "password"
        ada.save()
        assert devices.exchange(asked.secret, NOW) is Waiting.DENIED
    assert not ApiToken.objects.exists()


def test_guessing_codes_is_throttled(browser: Client) -> None:
    asked = begin()
    for _ in range(20):
        browser.get(PAGE, {"code": "BBBB-BBBB"})
    assert "Too many codes" in browser.get(PAGE, {"code": asked["user_code"]}).content.decode()
    assert DeviceLogin.objects.get().user is None


def test_nobody_confirms_without_signing_in_or_from_another_site(ada: User) -> None:
    asked = begin()
    yes = {"code": asked["user_code"], "answer": "yes"}
    assert Client().post(PAGE, yes).status_code == 302
    checked = Client(enforce_csrf_checks=True)
    checked.force_login(ada)
    assert checked.post(PAGE, yes).status_code == 403
    assert DeviceLogin.objects.get().user is None


def test_starts_of_one_address_are_limited() -> None:
    client = APIClient()
    codes = [client.post("/api/auth/device", {}, format="json").status_code for _ in range(31)]
    assert codes == [200] * 30 + [429]
