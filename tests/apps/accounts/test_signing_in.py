"""Signing in, tokens, keys and the first administrator."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from django.contrib.auth import authenticate
from django.db import connection
from django.test import RequestFactory

from apps.accounts import services, throttles, tokens
from apps.accounts.errors import SignInRefused, TokenRefused, TooMany
from apps.accounts.models import ApiToken, RefreshToken, Throttle, User

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery"
NOW = datetime.now(UTC)


@pytest.fixture
def user() -> User:
    return User.objects.create_user("ada@example.org", PASSWORD)


# passwords


def test_the_right_password_signs_in_whatever_the_case_of_the_address(user: User) -> None:
    assert services.check_sign_in(" ADA@Example.org ", PASSWORD, "10.0.0.1") == user


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("ada@example.org", "wrong"),
        ("nobody@example.org", PASSWORD),
        ("ada@example.org", ""),
        ("", PASSWORD),
        ("ada@example.org\x00", PASSWORD),
        ("ada@example.org", PASSWORD + "\x00"),
        ("ada@example.org", "x" * 100_000),
        ("\ud800", "x"),
    ],
)
def test_every_refusal_reads_the_same(user: User, email: str, password: str) -> None:
    with pytest.raises(SignInRefused, match=r"^Invalid email or password$"):
        services.check_sign_in(email, password, "10.0.0.1")


def test_a_disabled_account_reads_like_a_wrong_password(user: User) -> None:
    User.objects.update(is_active=False)
    with pytest.raises(SignInRefused, match=r"^Invalid email or password$"):
        services.check_sign_in(user.email, PASSWORD, "10.0.0.1")


def test_passwords_are_kept_with_argon2(user: User) -> None:
    assert user.password.startswith("argon2$argon2id$")


def test_an_unknown_account_costs_one_hash_as_a_known_one(
    user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    from apps.accounts.hashing import PasswordHasher

    hashed: list[str] = []
    encode, verify = PasswordHasher.encode, PasswordHasher.verify
    monkeypatch.setattr(PasswordHasher, "encode", lambda *a: hashed.append("encode") or encode(*a))
    monkeypatch.setattr(PasswordHasher, "verify", lambda *a: hashed.append("verify") or verify(*a))
    for email in (user.email, "nobody@example.org"):
        with pytest.raises(SignInRefused):
            services.check_sign_in(email, "wrong", "10.0.0.1")
    assert hashed == ["verify", "encode"]


# throttle


def refused(email: str, address: str, password: str = "wrong") -> bool:
    """Whether the attempt was throttled (True) or merely wrong (False)."""
    try:
        services.check_sign_in(email, password, address)
    except TooMany:
        return True
    except SignInRefused:
        return False
    raise AssertionError("signed in")


def test_an_account_is_slow_after_five_failures_from_any_address(user: User) -> None:
    assert [refused(user.email, f"10.0.0.{n}") for n in range(7)] == [False] * 5 + [True] * 2
    with pytest.raises(TooMany) as limit:
        services.check_sign_in(user.email.upper(), "wrong", "10.9.9.9")
    assert 1 <= limit.value.retry_after_s <= 60
    assert services.check_sign_in(user.email.upper(), PASSWORD, "10.9.9.9") == user


def test_an_address_is_slow_after_twenty_failures_on_any_account() -> None:
    assert [refused(f"u{n}@example.org", "10.0.0.1") for n in range(21)] == [False] * 20 + [True]


def test_successful_sign_ins_are_never_throttled(user: User) -> None:
    for _ in range(30):
        services.check_sign_in(user.email, PASSWORD, "10.0.0.1")


def test_sign_in_is_possible_again_after_a_minute(user: User) -> None:
    while not refused(user.email, "10.0.0.1"):
        pass
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_throttle SET since = since - interval '61 seconds'")
    assert services.check_sign_in(user.email, PASSWORD, "10.0.0.1") == user


def test_counters_do_not_reveal_who_tried(user: User) -> None:
    refused(user.email, "10.0.0.1")
    assert not [
        key
        for key in Throttle.objects.values_list("key", flat=True)
        if "ada" in key or "10.0" in key
    ]


def test_old_counters_are_forgotten() -> None:
    throttles.spend("a", limit=1, window_s=60)
    assert throttles.forget_old() == 0
    with connection.cursor() as cursor:
        cursor.execute("UPDATE accounts_throttle SET since = since - interval '25 hours'")
    assert throttles.forget_old() == 1


@pytest.mark.django_db(transaction=True)
def test_many_servers_together_keep_one_limit() -> None:
    passed: list[int] = []

    def server() -> None:
        for _ in range(10):
            try:
                throttles.spend("login:x", limit=5, window_s=60)
                passed.append(1)
            except TooMany:
                continue
        connection.close()

    threads = [threading.Thread(target=server) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == 5


def test_the_admins_sign_in_has_the_same_throttle(user: User) -> None:
    request = RequestFactory().post(
        "/admin/login/", REMOTE_ADDR="10.0.0.1", HTTP_X_FORWARDED_FOR="1.2.3.4"
    )
    assert authenticate(request, username=user.email, password=PASSWORD) == user
    for _ in range(5):
        assert authenticate(request, username=user.email, password="wrong") is None
    assert refused(user.email, "10.0.0.2")


# access tokens


def test_an_access_token_names_its_user_for_a_quarter_of_an_hour(user: User) -> None:
    token = tokens.issue_access(user, NOW)
    assert tokens.user_of_access(token) == user
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["exp"] - claims["iat"] == 900
    with pytest.raises(TokenRefused, match=r"^Invalid or expired token$"):
        tokens.user_of_access(tokens.issue_access(user, NOW - timedelta(seconds=901)))


def forged(user: User, **changes: Any) -> dict[str, Any]:
    claims = {"sub": str(user.pk), "pwd": user.credential, "exp": int(NOW.timestamp()) + 600}
    return {key: value for key, value in {**claims, **changes}.items() if value is not None}


@pytest.mark.parametrize(
    "changes",
    [{"sub": "999999"}, {"sub": "x"}, {"sub": None}, {"pwd": None}, {"pwd": "x"}, {"exp": None}],
)
def test_claims_that_do_not_fit_are_refused_even_when_signed(
    user: User, changes: dict[str, Any]
) -> None:
    token = jwt.encode(forged(user, **changes), tokens._signing_keys()[0], algorithm="HS256")
    with pytest.raises(TokenRefused):
        tokens.user_of_access(token)


def test_tokens_that_others_signed_are_refused(user: User) -> None:
    for token in (
        jwt.encode(forged(user), "x" * 32, algorithm="HS256"),
        jwt.encode(forged(user), None, algorithm="none"),
        jwt.encode(forged(user), tokens._signing_keys()[0], algorithm="HS512"),
        jwt.encode(forged(user, aud="https://x/mcp"), tokens._signing_keys()[0], algorithm="HS256"),
        "",
        "a.b.c",
        "\ud800",
    ):
        with pytest.raises(TokenRefused):
            tokens.user_of_access(token)


def test_a_new_password_ends_every_token_and_key(user: User) -> None:
    pair = tokens.begin_chain(user, NOW)
    key, _ = tokens.make_key(user, "ci")
    user.set_password("another horse battery")
    user.save()
    for use in (
        lambda: tokens.user_of_access(pair.access),
        lambda: tokens.rotate(pair.refresh, NOW),
        lambda: tokens.user_of_key(key, NOW),
    ):
        with pytest.raises(TokenRefused):
            use()


def test_a_disabled_account_ends_every_token_and_key(user: User) -> None:
    pair = tokens.begin_chain(user, NOW)
    key, _ = tokens.make_key(user, "ci")
    User.objects.update(is_active=False)
    for use in (
        lambda: tokens.user_of_access(pair.access),
        lambda: tokens.rotate(pair.refresh, NOW),
        lambda: tokens.user_of_key(key, NOW),
    ):
        with pytest.raises(TokenRefused):
            use()


# refresh tokens


def test_a_refresh_token_is_good_once(user: User) -> None:
    first = tokens.begin_chain(user, NOW)
    second = tokens.rotate(first.refresh, NOW)
    assert tokens.user_of_access(second.access) == user
    assert second.refresh != first.refresh


def test_a_second_use_ends_the_whole_chain_and_no_other(user: User) -> None:
    stolen, other = tokens.begin_chain(user, NOW), tokens.begin_chain(user, NOW)
    second = tokens.rotate(stolen.refresh, NOW)
    for token in (stolen.refresh, second.refresh):
        with pytest.raises(TokenRefused, match="Invalid refresh token"):
            tokens.rotate(token, NOW)
    assert tokens.rotate(other.refresh, NOW)


def test_a_refresh_token_expires_after_thirty_days(user: User) -> None:
    pair = tokens.begin_chain(user, NOW)
    with pytest.raises(TokenRefused, match="Refresh token expired"):
        tokens.rotate(pair.refresh, NOW + timedelta(days=30, seconds=1))


def test_signing_out_ends_the_chain(user: User) -> None:
    pair = tokens.rotate(tokens.begin_chain(user, NOW).refresh, NOW)
    tokens.end_chain(pair.refresh)
    tokens.end_chain("unknown")
    with pytest.raises(TokenRefused):
        tokens.rotate(pair.refresh, NOW)
    assert not RefreshToken.objects.exists()


def test_refresh_tokens_are_stored_as_digests(user: User) -> None:
    pair = tokens.begin_chain(user, NOW)
    assert pair.refresh not in str(list(RefreshToken.objects.values()))
    assert pair.refresh not in repr(pair)


# keys


def test_a_key_acts_as_its_user_and_is_stored_as_a_digest(user: User) -> None:
    key, row = tokens.make_key(user, "ci")
    assert key.startswith("strm_")
    assert row.prefix == key[:12]
    assert tokens.user_of_key(key, NOW) == user
    assert key not in str(list(ApiToken.objects.values()))
    row.refresh_from_db()
    assert row.last_used_at is not None


@pytest.mark.parametrize("key", ["strm_", "strm_0000", "strm_" + "0" * 64, "strm_\x00"])
def test_unknown_keys_are_refused(key: str) -> None:
    with pytest.raises(TokenRefused, match="Invalid API key"):
        tokens.user_of_key(key, NOW)


def test_a_key_expires(user: User) -> None:
    key, _ = tokens.make_key(user, "ci", tokens.expiry_after(1, NOW))
    assert tokens.user_of_key(key, NOW + timedelta(hours=23))
    with pytest.raises(TokenRefused, match="API key expired"):
        tokens.user_of_key(key, NOW + timedelta(hours=25))


# first administrator


def test_the_first_administrator_is_created_once() -> None:
    email, password = services.ensure_first_admin({})
    assert password is not None
    assert len(password) >= 20
    assert services.check_sign_in(email, password, "x").is_superuser
    assert services.ensure_first_admin({}) == (email, None)
    assert User.objects.count() == 1


def test_the_environment_names_the_first_administrator() -> None:
    environ = {"STROEM_ADMIN_EMAIL": "boss@example.org", "STROEM_ADMIN_PASSWORD": PASSWORD}
    assert services.ensure_first_admin(environ) == ("boss@example.org", None)
    assert services.check_sign_in("boss@example.org", PASSWORD, "x").is_staff


def test_a_named_account_without_a_password_gets_a_generated_one() -> None:
    email, password = services.ensure_first_admin({"STROEM_ADMIN_EMAIL": "boss@example.org"})
    assert services.check_sign_in(email, password or "", "x").is_superuser


def test_a_known_account_is_promoted_and_keeps_its_password(user: User) -> None:
    environ = {
        "STROEM_ADMIN_EMAIL": "ADA@example.org",
        "STROEM_ADMIN_PASSWORD": "something else entirely",
    }
    assert services.ensure_first_admin(environ) == ("ada@example.org", None)
    assert services.check_sign_in(user.email, PASSWORD, "x").is_superuser
