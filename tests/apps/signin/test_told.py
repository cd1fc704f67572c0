"""Somebody whose ways to sign in change gets a mail, and the audit log an entry."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import mail
from django.core.management import call_command

from apps.accounts import alerts
from apps.accounts.models import Alert, User
from apps.audit.models import Entry
from tests.apps.signin.authenticator import Device
from tests.apps.signin.provider import Company
from tests.apps.signin.test_factors import ORIGIN, PASSWORD, Person, adds
from tests.apps.signin.test_sign_on import arrive

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def configured(settings: Any) -> None:
    settings.MAIL_IS_CONFIGURED = True


@pytest.fixture
def ada() -> Person:
    made = Person(User.objects.create_user("ada@example.org", PASSWORD))
    Alert.objects.all().delete()  # of the first password
    return made


def mails(to: str = "ada@example.org") -> list[Any]:
    mail.outbox.clear()
    alerts.send()
    assert {one.to[0] for one in mail.outbox} <= {to}
    return list(mail.outbox)


def noted(kind: str) -> list[tuple[str, str]]:
    rows = Entry.objects.filter(kind=kind).order_by("pk")
    return [(row.act, row.detail) for row in rows]


def test_an_app_and_new_recovery_codes_are_told_without_their_secrets(ada: Person) -> None:
    ada.sets_up_an_app()
    ada.signs_in()
    ada.browser.post("/admin/login/second/", {"code": ada.code()})
    ada.browser.post("/admin/security/codes/")
    added, renewed = mails()
    assert added.subject == "[Stroem] A way to sign in was added"
    assert "Added to your account: authenticator app." in added.body
    assert renewed.subject == "[Stroem] You have new recovery codes"
    assert noted("second-factor") == [
        ("second-factor.add", "authenticator app"), ("second-factor.renew", "recovery codes"),
    ]  # fmt: skip
    kept = added.body + renewed.body + str(list(Entry.objects.values()))
    for secret in (ada.secret, ada.first, *ada.codes):
        assert secret not in kept


def test_passkeys_are_told_by_name(ada: Person, settings: Any) -> None:
    settings.BASE_URL, settings.IS_HTTPS = ORIGIN, True
    ada.signs_in()
    adds(ada, Device(ORIGIN))
    row = ada.user.authenticator_set.get(type="webauthn")  # type: ignore[attr-defined]  # untyped
    ada.browser.post(f"/admin/security/{row.pk}/remove/")
    added, removed = mails()
    assert "Added to your account: passkey “Laptop”." in added.body
    assert removed.subject == "[Stroem] A way to sign in was removed"
    assert "Taken from your account: passkey “Laptop”." in removed.body
    assert noted("second-factor")[1] == ("second-factor.remove", "passkey “Laptop”")


def test_what_the_server_removes_is_told_as_well(ada: Person) -> None:
    ada.sets_up_an_app()
    mails()
    call_command("remove_factors", ada.user.email)
    (found,) = mails()
    assert "Taken from your account: all second factors." in found.body
    assert "a command on the server" in found.body


def test_the_first_sign_in_by_a_new_link_is_told_once(company: Company) -> None:
    company.person("lea")
    for _ in range(2):
        arrive(company, "lea")
    (found,) = mails("lea@example.org")
    assert found.subject == "[Stroem] Your account is linked to Company"
    assert "Whoever signs in at Company as “lea@example.org” now comes in as you." in found.body
    assert "change your password at the provider" in found.body.replace("\n", " ")
    assert noted("social-account") == [("social-account.add", "company: lea@example.org")]


def test_a_link_to_an_account_with_a_password_is_told(company: Company, offer: Any) -> None:
    offer(allow_sign_up=False, link_by_email=True)
    User.objects.create_user("mia@example.org", PASSWORD)
    Alert.objects.all().delete()
    company.person("mia")
    arrive(company, "mia")
    (found,) = mails("mia@example.org")
    assert "linked to Company" in found.subject and "Set a new password" in found.body
