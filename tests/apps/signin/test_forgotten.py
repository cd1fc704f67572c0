"""A new password by mail: for those who own the address, without telling who has an account."""

from __future__ import annotations

import re
from concurrent.futures import Future
from typing import Any

import pytest
from django.core import mail
from django.test import Client

from apps.accounts import tokens
from apps.accounts.errors import TokenRefused
from apps.accounts.models import User
from apps.signin.views import forgotten

pytestmark = pytest.mark.django_db
PASSWORD, NEW = "correct horse battery", "another horse battery 7"
ASK = "/admin/forgotten/"


class Now:
    """Runs at once what would run apart."""

    def submit(self, function: Any, *args: Any) -> Future[None]:
        function(*args)
        return Future()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.MAIL_IS_CONFIGURED = True
    monkeypatch.setattr(forgotten, "_mails", Now())
    monkeypatch.setattr(forgotten.connection, "close", lambda: None)


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada@example.org", PASSWORD)


def ask(email: str, address: str = "10.0.0.1", **more: str) -> Any:
    return Client().post(ASK, {"email": email}, REMOTE_ADDR=address, **more)


def link() -> str:
    found = re.search(r"http://127\.0\.0\.1:8080(/admin/forgotten/\S+)", mail.outbox[-1].body)
    assert found is not None, mail.outbox[-1].body
    return found[1]


def test_a_link_by_mail_sets_a_new_password_once(ada: User) -> None:
    pair = tokens.begin_chain(ada, forgotten_now())
    assert ask("ADA@example.org")["Location"] == "/admin/forgotten/sent/"
    assert mail.outbox[-1].to == ["ada@example.org"]
    there, browser = link(), Client()
    form = browser.get(there)["Location"]
    assert there.split("/")[-2] not in form  # the token does not stay in the address
    assert browser.post(form, {"new_password1": NEW, "new_password2": "x"}).status_code == 200
    done = browser.post(form, {"new_password1": NEW, "new_password2": NEW})
    assert done["Location"] == "/admin/login/"
    ada.refresh_from_db()
    assert ada.check_password(NEW)
    assert browser.get("/admin/tasks/").status_code == 302  # nobody is signed in by it
    assert "no longer works" in Client().get(there).content.decode()
    with pytest.raises(TokenRefused):
        tokens.rotate(pair.refresh, forgotten_now())


def forgotten_now() -> Any:
    from django.utils import timezone

    return timezone.now()


def test_the_page_says_the_same_of_known_and_unknown_addresses(ada: User) -> None:
    User.objects.create_user("sso@example.org")
    User.objects.create_user("off@example.org", PASSWORD, is_active=False)
    told = {
        (answer.status_code, answer["Location"])
        for email in ("ada@example.org", "nobody@example.org", "sso@example.org", "off@example.org")
        for answer in [ask(email)]
    }
    assert told == {(302, "/admin/forgotten/sent/")}
    assert [one.to for one in mail.outbox] == [["ada@example.org"]]


def test_the_link_leads_to_our_address_whatever_the_request_calls_it(ada: User) -> None:
    ask("ada@example.org", HTTP_HOST="localhost", HTTP_X_FORWARDED_HOST="evil.example")
    assert "http://127.0.0.1:8080/admin/forgotten/" in mail.outbox[-1].body
    assert "localhost" not in mail.outbox[-1].body and "evil" not in mail.outbox[-1].body


@pytest.mark.parametrize("email", ["ada@example.org", "nobody@example.org"])
def test_an_account_gets_few_mails(ada: User, email: str) -> None:
    told = [ask(email, f"10.0.0.{n}").status_code for n in range(5)]
    assert told == [302] * 3 + [429] * 2
    assert len(mail.outbox) == (3 if email.startswith("ada") else 0)


def test_an_address_asks_rarely() -> None:
    told = [ask(f"u{n}@example.org").status_code for n in range(12)]
    assert told == [302] * 10 + [429] * 2


def test_a_mail_that_cannot_be_sent_breaks_nothing(ada: User, settings: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    assert ask("ada@example.org").status_code == 302


def test_without_mail_the_page_offers_nothing(settings: Any) -> None:
    settings.MAIL_IS_CONFIGURED = False
    for answer in (Client().get(ASK), ask("ada@example.org")):
        page = answer.content.decode()
        assert answer.status_code == 404
        assert "This server sends no mail" in page and "<form" not in page


@pytest.mark.parametrize("there", ["x/y", "MQ/x-y", "MQ/set-password", "%00/x", "é/é"])
def test_made_up_links_are_refused(there: str) -> None:
    answer = Client().get(f"/admin/forgotten/{there}/")
    assert answer.status_code in (200, 404)
    assert "new_password1" not in answer.content.decode()
