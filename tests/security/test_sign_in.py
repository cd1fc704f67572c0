"""Signing in under attack: second spellings of an account, and many checks at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F

from apps.accounts import services
from apps.accounts.errors import SignInRefused, TooMany
from apps.accounts.models import Throttle, User
from apps.accounts.throttles import KNOWN, address_range, forget_old, throttle_key
from apps.approvals import rights
from tests.apps.jobs.builders import until

pytestmark = pytest.mark.django_db(transaction=True)
LATE = 5
PASSWORD = "correct horse battery"


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "spelling", ["v\u0131ewer@example.org", "viewer@example.org\u017f", "VIEWER@EXAMPLE.ORG"]
)
def test_every_spelling_of_an_account_shares_its_limit_or_is_another_account(spelling: str) -> None:
    User.objects.create_user("viewer@example.org", PASSWORD)
    for number in range(services.ACCOUNT_LIMIT):
        with pytest.raises(SignInRefused):
            services.check_sign_in("viewer@example.org", "a wrong guess", f"10.0.0.{number}")
    with pytest.raises((SignInRefused, TooMany)) as refused:
        services.check_sign_in(spelling, "a wrong guess", "10.0.1.1")
    assert refused.type is (TooMany if spelling.isascii() else SignInRefused)


def test_few_passwords_are_checked_at_once_and_the_rest_come_back_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen, most, lock, full = [0], [0], threading.Lock(), threading.Event()

    def check(user: User | None, password: str) -> bool:
        with lock:
            seen[0] += 1
            most[0] = max(most[0], seen[0])
        full.wait(20)
        with lock:
            seen[0] -= 1
        return False

    def attempt(number: int) -> str:
        try:
            services.check_sign_in(f"p{number}@example.org", PASSWORD, f"10.0.0.{number}")
        except (SignInRefused, TooMany) as error:
            return type(error).__name__
        finally:
            connection.close()
        return ""

    monkeypatch.setattr(services, "_is_right", check)
    total = services.MOST_CHECKS + services.MOST_WAITING + LATE
    with ThreadPoolExecutor(total) as pool:
        asked = [pool.submit(attempt, number) for number in range(total)]
        until(lambda: sum(one.done() for one in asked) == LATE)
        full.set()
        told = [one.result() for one in asked]
    assert most[0] == services.MOST_CHECKS
    assert told.count("TooMany") == LATE


def together(*attempts: tuple[str, str, str]) -> list[str]:
    """How each of these sign-ins ended; all begin at once, and wait for their turn."""
    gate = threading.Barrier(len(attempts))

    def attempt(email: str, password: str, address: str) -> str:
        gate.wait(20)
        try:
            services.check_sign_in(email, password, address)
        except (SignInRefused, TooMany) as error:
            return type(error).__name__
        finally:
            connection.close()
        return "in"

    with ThreadPoolExecutor(len(attempts)) as pool:
        return list(pool.map(lambda one: attempt(*one), attempts))


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for all checks of a test, so that only the limits of failures are seen."""
    monkeypatch.setattr(services, "_checks", services._Places(2, 100))


@pytest.mark.long
def test_right_passwords_at_once_lock_nobody_out(room: None) -> None:
    User.objects.create_user("ada@example.org", PASSWORD)
    assert together(*[("ada@example.org", PASSWORD, "10.0.0.1")] * 8) == ["in"] * 8
    assert counted() == {}


def test_wrong_passwords_at_once_count_exactly(room: None) -> None:
    user = User.objects.create_user("ada@example.org", PASSWORD)
    told = together(*[("ADA@example.org", "a wrong guess", f"10.0.0.{n}") for n in range(10)])
    assert sorted(told) == ["SignInRefused"] * 5 + ["TooMany"] * 5
    assert counted()[throttle_key("login-account", f"id {user.pk}")] == 10


@pytest.mark.long
def test_who_guesses_locks_nobody_out_behind_the_same_address() -> None:
    for name in ("ada", "bob"):
        User.objects.create_user(f"{name}@example.org", PASSWORD)
    for number in range(services.ADDRESS_LIMIT + 5):
        with pytest.raises((SignInRefused, TooMany)):
            services.check_sign_in(f"u{number % 30}@example.org", "a wrong guess", "10.0.0.1")
    for name in ("ada", "bob"):
        assert services.check_sign_in(f"{name}@example.org", PASSWORD, "10.0.0.1")


@pytest.mark.long
def test_an_address_that_guesses_has_one_check_at_a_time_and_leaves_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    user = User.objects.create_user("ada@example.org", PASSWORD)
    for _ in range(services.ADDRESS_LIMIT):
        with pytest.raises((SignInRefused, TooMany)):
            services.check_sign_in("nobody@example.org", "a wrong guess", "2001:db8:1:2::1")
    held, go = threading.Event(), threading.Event()
    is_right = services._is_right

    def check(user: User | None, password: str) -> bool:
        if user is None:
            held.set()
            assert go.wait(20)
        return is_right(user, password)

    monkeypatch.setattr(services, "_is_right", check)
    with ThreadPoolExecutor(1) as pool:
        guess = pool.submit(together, ("nobody@example.org", "a wrong guess", "2001:db8:1:2::2"))
        assert held.wait(20)
        with pytest.raises(TooMany) as busy:  # from the same network of 64 bits
            services.check_sign_in("nobody@example.org", "a wrong guess", "2001:db8:1:2:ffff::3")
        assert busy.value.retry_after_s == 1
        assert services.check_sign_in("ada@example.org", PASSWORD, "2001:db8:1:3::1") == user
        go.set()
        assert guess.result() == ["TooMany"]


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("address", "days", "is_let_in"),
    [("10.0.0.1", 29, True), ("10.0.0.1", 31, False), ("10.0.0.2", 0, False)],
)
def test_guesses_at_an_account_do_not_slow_an_address_it_was_signed_in_from(
    monkeypatch: pytest.MonkeyPatch, address: str, days: int, is_let_in: bool
) -> None:
    user = User.objects.create_user("ada@example.org", PASSWORD)
    services.check_sign_in(user.email, PASSWORD, "10.0.0.1")
    Throttle.objects.update(since=F("since") - timedelta(days=days))
    forget_old()
    for number in range(services.ACCOUNT_LIMIT):
        with pytest.raises(SignInRefused):
            services.check_sign_in(user.email, "a wrong guess", f"10.0.9.{number}")
    monkeypatch.setattr(services, "_suspected", services._Places(0, 0))  # others' guesses fill it
    if is_let_in:
        assert services.check_sign_in(user.email, PASSWORD, address) == user
        return
    with pytest.raises(TooMany):
        services.check_sign_in(user.email, PASSWORD, address)


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("10.0.0.1", "10.0.0.1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("", ""), ("unix", "unix"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"), ("::1", "::/64"),
    ],
)  # fmt: skip
def test_a_caller_with_a_whole_network_is_one_caller(address: str, place: str) -> None:
    assert address_range(address) == place


def counted() -> dict[str, int]:
    rows = Throttle.objects.exclude(key__startswith=f"{KNOWN}:")
    return dict(rows.values_list("key", "count"))


def test_an_address_that_only_looks_like_another_is_another_person() -> None:
    """Where people are named by e-mail, as approvers and takers of a decision."""
    viewer = User.objects.create_user("viewer@example.org", PASSWORD)
    assert rights.person(" VIEWER@example.org") == viewer
    for other in ("v\u0131ewer@example.org", "viewer@example.org\u017f"):
        assert rights.person(other) is None
