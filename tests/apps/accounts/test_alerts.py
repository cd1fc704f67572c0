"""Who changes a way to sign in, or gives a program a key, cannot do so unseen: its person gets a
mail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail
from django.core.management import call_command
from django.db import transaction
from django.test import Client

from apps.accounts import alerts, devices, tokens
from apps.accounts.models import Alert, User
from apps.accounts.people import add_service
from apps.audit import services as audit
from apps.audit.models import Entry
from apps.conductor import services as conductor
from tests.apps.api.callers import PASSWORD, user

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)
NEW_PASSWORD = "another horse battery"


@pytest.fixture(autouse=True)
def configured(settings: Any) -> None:
    settings.MAIL_IS_CONFIGURED = True


@pytest.fixture
def ada() -> User:
    made = User.objects.create_user("ada@example.org", PASSWORD)
    Alert.objects.all().delete()  # of its first password
    return made


def mails() -> list[Any]:
    """Those that the conductor sends now."""
    mail.outbox.clear()
    alerts.send()
    assert not Alert.objects.exists()
    return list(mail.outbox)


def test_a_new_password_is_told_and_says_from_where(ada: User) -> None:
    browser = Client(REMOTE_ADDR="192.0.2.7")
    browser.force_login(ada)
    given = {
        "old_password": PASSWORD, "new_password1": NEW_PASSWORD, "new_password2": NEW_PASSWORD,
    }  # fmt: skip
    assert browser.post("/admin/password_change/", given).status_code == 302
    (found,) = mails()
    assert (found.to, found.subject) == ([ada.email], "[Stroem] Your password was set")
    assert "By: you\nFrom: a page, 192.0.2.7\n" in found.body
    assert "tell an administrator" in found.body and "/admin/security/" in found.body
    assert NEW_PASSWORD not in found.body


def test_who_else_set_it_is_named(ada: User) -> None:
    with audit.during(audit.Origin("command", "local user deploy", "operator")):
        ada.set_password(NEW_PASSWORD)
        ada.save()
    (found,) = mails()
    assert "By: operator\nFrom: a command on the server, local user deploy" in found.body


def test_keys_are_told_without_their_secrets(ada: User) -> None:
    limits = {"scopes": ["jobs:run"], "workspaces": ["data-*"]}
    key, row = tokens.make_key(ada, "ci\nIf you know", NOW + timedelta(days=90), **limits)
    fresh = tokens.rotate_key(row, timedelta(hours=1), NOW)
    made, rotated = mails()
    assert made.subject == "[Stroem] A new API key"
    assert f"“ci If you know” ({row.prefix}…), with the scopes jobs:run" in made.body
    assert "on the workspaces data-*. It expires at " in made.body
    assert rotated.subject == "[Stroem] An API key has a new secret"
    for secret in (key, fresh, row.digest):
        assert secret not in made.body + rotated.body + str(list(Entry.objects.values()))


def test_a_program_that_signs_in_with_a_code_is_told_once_it_has_its_key(ada: User) -> None:
    asked = devices.ask("stroem on ada-laptop", "192.0.2.9", ["jobs:read"], NOW)
    devices.answer(devices.found(asked.code), ada, confirmed=True)
    assert mails() == []
    with audit.during(audit.Origin("api", "192.0.2.9")):
        key, _ = devices.exchange(asked.secret, NOW)
    (found,) = mails()
    assert (
        "“stroem on ada-laptop”" in found.body and "By: you\nFrom: the API, 192.0.2.9" in found.body
    )
    assert str(key) not in found.body and asked.secret not in found.body


def test_nothing_is_kept_where_no_mail_is_configured_and_programs_get_none(
    ada: User, settings: Any
) -> None:
    tokens.make_key(add_service("ci", ()), "nightly")
    assert mails() == []
    settings.MAIL_IS_CONFIGURED = False
    tokens.make_key(ada, "ci")
    assert not Alert.objects.exists() and alerts.send() == 0


def test_a_change_that_is_not_kept_is_not_told(ada: User) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        tokens.make_key(ada, "ci")
        raise RuntimeError
    assert mails() == []


def test_a_mail_that_cannot_be_sent_is_tried_again_and_then_given_up(
    ada: User, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    tokens.make_key(ada, "ci")
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    conductor.sweep()
    assert alerts.send() == 0, "it is not due again yet"
    found = Alert.objects.get()
    assert found.tries == 1 and "was not sent (try 1)" in caplog.text
    due = {"try_at": NOW - timedelta(hours=1)}
    Alert.objects.update(**due)
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    assert [one.subject for one in mails()] == ["[Stroem] A new API key"]
    tokens.make_key(ada, "other")
    Alert.objects.update(tries=alerts.MOST_TRIES - 1)
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    assert alerts.send() == 0
    assert not Alert.objects.exists() and "is given up after 8 tries" in caplog.text


def test_one_that_cannot_be_sent_holds_no_other_up(ada: User, settings: Any) -> None:
    for name in ("first", "second"):
        tokens.make_key(ada, name)
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    assert alerts.send() == 0
    assert sorted(Alert.objects.values_list("tries", flat=True)) == [0, 1]
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    assert alerts.send() == 1
    (found,) = mail.outbox
    assert "“second”" in found.body


def test_a_new_address_is_told_to_the_old_one(ada: User) -> None:
    root = Client()
    root.force_login(user(is_superuser=True))
    Alert.objects.all().delete()
    page = f"/admin/accounts/user/{ada.pk}/change/"
    form = root.get(page).context["adminform"].form
    given = {
        name: form[name].value() for name in form.fields if form[name].value() not in (None, False)
    }
    lines = {"grants-TOTAL_FORMS": 0, "grants-INITIAL_FORMS": 0}
    answer = root.post(page, given | lines | {"email": "eve@example.org"})
    assert answer.status_code == 302, answer.content
    (found,) = mails()
    assert found.to == ["ada@example.org"] and "eve@example.org" in found.body


@pytest.mark.usefixtures("ada")
def test_a_command_that_sets_a_password_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: NEW_PASSWORD)
    call_command("changepassword", "ada@example.org")
    (found,) = mails()
    assert "a command on the server" in found.body
