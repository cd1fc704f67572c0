"""Signing in under attack: second spellings of an account, and many checks at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from apps.accounts import services
from apps.accounts.errors import SignInRefused, TooMany
from apps.accounts.models import User
from tests.apps.jobs.builders import until

pytestmark = pytest.mark.django_db(transaction=True)
LATE = 5
PASSWORD = "correct horse battery"


@pytest.mark.parametrize(
    "spelling", ["v\u0131ewer@example.org", "viewer@example.org\u017f", "VIEWER@EXAMPLE.ORG"]
)
def test_every_spelling_of_an_account_shares_its_limit_or_is_another_account(spelling: str) -> None:
    User.objects.create_user("viewer@example.org", PASSWORD)
    for number in range(services.ACCOUNT_LIMIT):
        with pytest.raises(SignInRefused):
            services.check_sign_in("viewer@example.org", "a wrong guess", f"10.0.0.{number}")
    with pytest.raises((SignInRefused, TooMany)) as refused:
        services.check_sign_in(spelling, PASSWORD, "10.0.1.1")
    assert refused.type is (TooMany if spelling.isascii() else SignInRefused)


def test_few_passwords_are_checked_at_once_and_the_rest_come_back_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, most, lock, full = [0], [0], threading.Lock(), threading.Event()

    def check(email: str, password: str) -> None:
        with lock:
            seen[0] += 1
            most[0] = max(most[0], seen[0])
        full.wait(20)
        with lock:
            seen[0] -= 1

    def attempt(number: int) -> str:
        try:
            services.check_sign_in(f"p{number}@example.org", PASSWORD, f"10.0.0.{number}")
        except (SignInRefused, TooMany) as error:
            return type(error).__name__
        finally:
            connection.close()
        return ""

    monkeypatch.setattr(services, "_match", check)
    total = services.MOST_CHECKS + services.MOST_WAITING + LATE
    with ThreadPoolExecutor(total) as pool:
        asked = [pool.submit(attempt, number) for number in range(total)]
        until(lambda: sum(one.done() for one in asked) == LATE)
        full.set()
        told = [one.result() for one in asked]
    assert most[0] == services.MOST_CHECKS
    assert told.count("TooMany") == LATE
