"""A second factor: codes, recovery codes and passkeys, on the page and in the API."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.contrib.auth import authenticate
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client, RequestFactory

from apps.accounts import sessions
from apps.accounts.errors import SignInRefused, TooMany
from apps.accounts.models import Throttle, User
from apps.audit.models import Entry
from apps.signin import entrance, factors
from tests.apps.signin.authenticator import Device

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
SECOND = "/admin/login/second/"


@dataclass
class Person:
    """Somebody and their browser."""

    user: User
    browser: Client = field(default_factory=Client)
    secret: str = ""
    first: str = ""
    codes: tuple[str, ...] = ()

    def signs_in(self, browser: Client | None = None) -> Any:
        form = {"username": self.user.email, "password": PASSWORD, "next": "/admin/tasks/"}
        return (browser or self.browser).post("/admin/login/", form)

    def code(self, ahead: int = 1) -> str:
        """Not that of the set-up, and good for at least half a minute."""
        counter = int(time.time()) // 30 + ahead
        return format_hotp_value(hotp_value(self.secret, counter))

    def sets_up_an_app(self) -> Person:
        self.signs_in()
        page = self.browser.get("/admin/security/app/").content.decode()
        found = re.search(r"<code[^>]*>([A-Z2-7]{32})</code>", page)
        assert found is not None
        self.secret = found[1]
        self.first = self.code(0)
        done = self.browser.post("/admin/security/app/", {"code": self.first})
        assert done["Location"] == "/admin/security/codes/"
        shown = self.browser.get("/admin/security/codes/").content.decode()
        self.codes = tuple(re.findall(r"<code>(\d{8})</code>", shown))
        assert len(self.codes) == 10
        self.browser.logout()
        Throttle.objects.filter(key__startswith="code:").delete()
        return self


@pytest.fixture
def ada() -> Person:
    return Person(User.objects.create_user("ada@example.org", PASSWORD))


@pytest.fixture
def guarded(ada: Person) -> Person:
    return ada.sets_up_an_app()


def is_in(browser: Client) -> bool:
    return browser.get("/admin/tasks/").status_code == 200


def api(person: Person, **more: str) -> Any:
    told = {"email": person.user.email, "password": PASSWORD} | more
    return Client().post("/api/auth/login", told, content_type="application/json")


# codes


def test_a_password_alone_no_longer_opens_the_pages(guarded: Person) -> None:
    answer = guarded.signs_in()
    assert answer["Location"] == SECOND
    assert not is_in(guarded.browser)
    assert guarded.browser.get("/api/auth/me").status_code == 401
    done = guarded.browser.post(SECOND, {"code": guarded.code()})
    assert done["Location"] == "/admin/tasks/"
    assert is_in(guarded.browser)


def test_a_password_alone_gets_no_tokens(guarded: Person) -> None:
    refused = api(guarded)
    assert refused.status_code == 401
    assert refused.json()["code"] == "second_factor_needed"
    assert "access_token" not in refused.json() and not refused.cookies
    assert api(guarded, code="000000").json()["error"] == factors.WRONG_CODE
    assert "access_token" in api(guarded, code=guarded.code()).json()


def test_a_wrong_password_says_nothing_about_a_second_factor(guarded: Person) -> None:
    refused = api(guarded, password="wrong", code=guarded.code())
    assert refused.json() == {"error": "Invalid email or password", "code": "unauthenticated"}
    assert "access_token" in api(guarded, code=guarded.code()).json()  # the code is not used up


def test_no_other_way_through_django_opens_it(guarded: Person) -> None:
    request = RequestFactory().post("/elsewhere/")
    assert authenticate(request, username=guarded.user.email, password=PASSWORD) is None
    assert authenticate(None, username=guarded.user.email, password=PASSWORD) is None


def test_a_code_is_good_once_for_all_processes(guarded: Person) -> None:
    code = guarded.code()
    assert "access_token" in api(guarded, code=code).json()
    assert api(guarded, code=code).status_code == 401
    guarded.signs_in()
    answer = guarded.browser.post(SECOND, {"code": code})
    assert answer.status_code == 401 and factors.WRONG_CODE in answer.content.decode()


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_a_code_at_once_is_good_once(guarded: Person) -> None:
    code = guarded.code()

    def attempt(_: int) -> bool:
        try:
            return bool(factors.check_code(guarded.user, code))
        except SignInRefused:
            return False
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, range(4))) == 1


def test_the_code_of_the_set_up_opens_nothing(guarded: Person) -> None:
    assert api(guarded, code=guarded.first).status_code == 401


@pytest.mark.long
def test_guesses_at_codes_are_few_and_lock_nobody_else_out(guarded: Person) -> None:
    other = Person(User.objects.create_user("bob@example.org", PASSWORD)).sets_up_an_app()
    told = [api(guarded, code=f"{n:06}").status_code for n in range(7)]
    assert told == [401] * 5 + [429] * 2
    assert api(guarded, code=guarded.code()).status_code == 429  # else a guess would be seen
    assert "access_token" in api(other, code=other.code()).json()
    Throttle.objects.filter(key__startswith="code:").delete()
    assert "access_token" in api(guarded, code=guarded.code()).json()


def test_refusals_after_a_right_password_are_noted(guarded: Person) -> None:
    guarded.signs_in()
    for _ in range(factors.CODES_A_MINUTE + 2):
        guarded.browser.post(SECOND, {"code": "000000"})
    acts = Entry.objects.order_by("pk").values_list("act", flat=True)
    refused = [act for act in acts if act in ("session.refused", "session.throttled")]
    assert refused == ["session.refused"] * factors.CODES_A_MINUTE + ["session.throttled"]
    User.objects.update(is_staff=False)
    assert guarded.signs_in(Client()).status_code == 200
    last = Entry.objects.latest("pk")
    assert (last.act, last.object) == ("session.refused", guarded.user.email)
    assert "for the API only" in last.detail


def test_guesses_of_a_day_are_few(guarded: Person) -> None:
    for _ in range(factors.CODES_A_DAY):
        with pytest.raises(SignInRefused):
            factors.check_code(guarded.user, "x")
        Throttle.objects.filter(key__startswith="code:").delete()
    with pytest.raises(TooMany):
        factors.check_code(guarded.user, guarded.code())


def test_a_recovery_code_is_good_once(guarded: Person) -> None:
    code = guarded.codes[3]
    assert "access_token" in api(guarded, code=f"{code[:4]} {code[4:]}").json()
    assert api(guarded, code=code).status_code == 401
    guarded.signs_in()
    guarded.browser.post(SECOND, {"code": guarded.codes[4]})
    left = guarded.browser.get("/admin/security/codes/").content.decode()
    assert len(re.findall(r"<code>\d{8}</code>", left)) == 8
    guarded.browser.post("/admin/security/codes/")
    assert api(guarded, code=guarded.codes[5]).status_code == 401


def test_secrets_are_kept_sealed(guarded: Person) -> None:
    kept = str(list(Authenticator.objects.values_list("data", flat=True)))
    assert guarded.secret not in kept
    assert not any(code in kept for code in guarded.codes)


@pytest.mark.parametrize("how", ["late", "password", "disabled", "nobody"])
def test_the_second_page_is_for_those_who_just_gave_a_password(guarded: Person, how: str) -> None:
    if how != "nobody":
        guarded.signs_in()
    match how:
        case "late":
            session = guarded.browser.session
            session[entrance.SECOND]["at"] -= 601
            session.save()
        case "password":
            guarded.user.set_password("another horse battery")
            guarded.user.save()
        case "disabled":
            User.objects.update(is_active=False)
    answer = guarded.browser.post(SECOND, {"code": guarded.code()})
    assert answer["Location"] == "/admin/login/"
    assert not is_in(guarded.browser)


# changing factors


def test_an_old_session_changes_no_factor(ada: Person) -> None:
    ada.signs_in()
    session = ada.browser.session
    session[sessions.AT] -= sessions.FRESH_S + 1
    session.save()
    for address in ("app/", "codes/", "passkey/", "passkey/begin/", "1/remove/"):
        answer = ada.browser.post(f"/admin/security/{address}", {"code": "1"})
        assert answer["Location"].startswith("/admin/login/?again=1"), address
    page = ada.browser.get("/admin/login/?again=1&next=/admin/security/")
    assert "Sign in again to change how you sign in" in page.content.decode()
    assert not Authenticator.objects.exists()


def test_a_wrong_code_sets_nothing_up(ada: Person) -> None:
    ada.signs_in()
    ada.browser.get("/admin/security/app/")
    answer = ada.browser.post("/admin/security/app/", {"code": "000000"})
    assert answer.status_code == 400
    assert not Authenticator.objects.exists()


def test_without_its_last_factor_the_password_is_enough_again(guarded: Person) -> None:
    guarded.signs_in()
    guarded.browser.post(SECOND, {"code": guarded.code()})
    row = Authenticator.objects.get(type="totp")
    guarded.browser.post(f"/admin/security/{row.pk}/remove/")
    assert not Authenticator.objects.exists()
    assert "access_token" in api(guarded).json()


def test_nobody_removes_the_factor_of_somebody_else(guarded: Person) -> None:
    bob = Person(User.objects.create_user("bob@example.org", PASSWORD))
    bob.signs_in()
    row = Authenticator.objects.get(type="totp")
    bob.browser.post(f"/admin/security/{row.pk}/remove/")
    assert Authenticator.objects.filter(pk=row.pk).exists()
    assert bob.browser.get("/admin/mfa/authenticator/").status_code == 403


def test_an_administrator_removes_factors_of_a_lost_device(guarded: Person) -> None:
    root = Person(User.objects.create_superuser("root@example.org", PASSWORD))
    root.signs_in()
    assert guarded.user.email in root.browser.get("/admin/mfa/authenticator/").content.decode()
    row = Authenticator.objects.get(type="totp")
    root.browser.post(f"/admin/mfa/authenticator/{row.pk}/delete/", {"post": "yes"})
    assert "access_token" in api(guarded).json()


def test_the_server_removes_factors_of_a_lost_device(guarded: Person) -> None:
    said = StringIO()
    call_command("remove_factors", "ADA@example.org", stdout=said)
    assert said.getvalue() == "Second factors of ada@example.org: 1 removed.\n"
    assert not Authenticator.objects.exists()
    with pytest.raises(CommandError, match=r"no account 'eve@example\.org'"):
        call_command("remove_factors", "eve@example.org")


# passkeys


ORIGIN = "https://stroem.example.com"
WITH = "/admin/login/passkey/"


@pytest.fixture
def named(settings: Any) -> None:
    settings.BASE_URL, settings.IS_HTTPS = ORIGIN, True
    settings.MFA_WEBAUTHN_ALLOW_INSECURE_ORIGIN = False


def adds(person: Person, device: Device) -> Any:
    begun = person.browser.post("/admin/security/passkey/begin/").json()
    told = {"name": "Laptop", "credential": device.make(begun)}
    return person.browser.post("/admin/security/passkey/", told)


def comes(device: Device, browser: Client, **more: str) -> Any:
    begun = browser.post(f"{WITH}begin/").json()
    return browser.post(WITH, {"credential": device.sign(begun, **more), "next": "/admin/tasks/"})


def test_a_passkey_stands_for_password_and_code(named: None, ada: Person) -> None:
    ada.signs_in()
    device = Device(ORIGIN)
    assert adds(ada, device).json() == {"next": "/admin/security/codes/"}
    assert "Laptop" in ada.browser.get("/admin/security/").content.decode()
    browser = Client()
    assert comes(device, browser).json() == {"next": "/admin/tasks/"}
    assert is_in(browser)
    assert api(ada).json()["error"].startswith("This account signs in with a passkey")
    assert ada.signs_in(Client())["Location"] == SECOND


def test_an_answer_of_a_passkey_is_good_once(named: None, ada: Person) -> None:
    ada.signs_in()
    device, browser = Device(ORIGIN), Client()
    adds(ada, device)
    begun = browser.post(f"{WITH}begin/").json()
    state = dict(browser.session.items())
    answer = {"credential": device.sign(begun)}
    assert browser.post(WITH, answer).status_code == 200
    browser.logout()
    assert browser.post(WITH, answer).status_code == 401
    session = browser.session  # as if two requests had read the session before one wrote it
    session.update(state)
    session.save()
    assert browser.post(WITH, answer).status_code == 401
    assert not is_in(browser)


@pytest.mark.sample(7)
@pytest.mark.parametrize("how", ["origin", "finger", "key", "user", "disabled", "staff", "text"])
def test_a_passkey_that_does_not_fit_is_refused(named: None, ada: Person, how: str) -> None:
    ada.signs_in()
    device, browser, more = Device(ORIGIN), Client(), {}
    adds(ada, device)
    bob = User.objects.create_user("bob@example.org", PASSWORD)
    match how:
        case "origin":
            device.origin = "https://stroem.example.com.evil.example"
        case "finger":
            device.asks = False
        case "key":
            device.key = Device(ORIGIN).key
        case "user":
            from allauth.account.utils import user_pk_to_url_str

            from tests.apps.signin.authenticator import plain

            more = {"user": plain(user_pk_to_url_str(bob).encode())}
        case "disabled":
            User.objects.update(is_active=False)
        case "staff":
            User.objects.update(is_staff=False)
        case "text":
            browser.post(f"{WITH}begin/")
            for text in ("", "x", "[]", "{}", '{"response": {"userHandle": 5}}', "\x00"):
                assert browser.post(WITH, {"credential": text}).status_code == 401
            return
    assert comes(device, browser, **more).status_code == 401
    assert not is_in(browser)


def test_a_device_that_does_not_ask_is_not_stored(named: None, ada: Person) -> None:
    ada.signs_in()
    answer = adds(ada, Device(ORIGIN, asks=False))
    assert answer.status_code == 400
    assert not Authenticator.objects.exists()


def test_where_browsers_make_no_passkeys_none_are_offered(ada: Person, settings: Any) -> None:
    for base, https, offered in (
        ("http://10.0.0.7:8080", False, False), ("http://stroem.lan", False, False),
        ("https://10.0.0.7", True, False), ("http://localhost:8080", False, True),
        ("https://stroem.lan", True, True),
    ):  # fmt: skip
        settings.BASE_URL, settings.IS_HTTPS = base, https
        page = Client().get("/admin/login/").content.decode()
        assert ("Sign in with a passkey" in page) is offered, base
