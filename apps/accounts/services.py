"""Signing in, and the first administrator."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Any

from django.conf import settings
from django.contrib.auth.models import update_last_login
from django.db import connection, transaction
from django.db.models.functions import Lower

from apps.accounts.errors import SignInRefused, TooMany
from apps.accounts.models import User
from apps.accounts.querysets import SHORTEST_PASSWORD
from apps.accounts.throttles import give_back, spend, throttle_key
from engine.errors import InputError

REFUSED = "Invalid email or password"
DEFAULT_EMAIL = "admin@localhost"
ACCOUNT_LIMIT, ADDRESS_LIMIT, WINDOW_S = 5, 20, 60
LONGEST_PASSWORD = 1024
MOST_CHECKS, MOST_WAITING = 2, 6  # each holds a database connection
_checking, _waiting = BoundedSemaphore(MOST_CHECKS), BoundedSemaphore(MOST_CHECKS + MOST_WAITING)
_LOCK_FIRST_ADMIN = 0x5_7120E_01


def check_sign_in(email: str, password: str, address: str) -> User:
    """The active user with this e-mail and password.

    Raises SignInRefused, always with the same text after the same work, or TooMany: at most 5
    failures a minute for an account and 20 for an address, counted over all server processes.
    """
    email = email.strip().lower()
    keys = [
        (throttle_key("login-address", address), ADDRESS_LIMIT),
        (throttle_key("login-account", email), ACCOUNT_LIMIT),
    ]
    for key, limit in keys:
        spend(key, limit=limit, window_s=WINDOW_S)
    with _hashing():
        user = _match(email, password)
    if user is None:
        raise SignInRefused(REFUSED)
    for key, _ in keys:
        give_back(key)
    return user


@contextmanager
def _hashing() -> Iterator[None]:
    """A password check takes 100 MB and half a second of a core: few run at once, a few more wait,
    and the rest are asked to come back."""
    if not _waiting.acquire(blocking=False):
        raise TooMany(1)
    try:
        with _checking:
            yield
    finally:
        _waiting.release()


def _match(email: str, password: str) -> User | None:
    """`email` in lower case. The database compares in lower case too: its upper case makes one
    letter of several (`ı` and `i`), and a second spelling of an account would have limits of its
    own."""
    user = (
        User.objects.alias(lower=Lower("email")).filter(lower=email).first()
        if _is_storable(email, password)
        else None
    )
    if user is None:
        User().set_password(
            "the work of one hash, so that an unknown account takes as long as a known one"
        )
        return None
    return user if user.check_password(password) and user.is_active else None


def _is_storable(email: str, password: str) -> bool:
    """False for text that the database cannot look up, so that no account can have it."""
    try:
        (email + password).encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in email + password and len(password) <= LONGEST_PASSWORD


def note_sign_in(user: User) -> None:
    update_last_login(User, user)


def short_password(environ: Mapping[str, str] = os.environ) -> str | None:
    """What is wrong with the first administrator's password in environment or settings, if it is
    too short."""
    password = _initial_user(environ)[1]
    if not password or len(password) >= SHORTEST_PASSWORD:
        return None
    is_given = environ.get("STROEM_ADMIN_PASSWORD") == password
    named = "STROEM_ADMIN_PASSWORD" if is_given else "auth.initial_user.password"
    return f"{named} must have at least {SHORTEST_PASSWORD} characters"


@transaction.atomic
def ensure_first_admin(
    environ: Mapping[str, str] = os.environ, *, may_be_short: bool = False
) -> tuple[str, str | None]:
    """The e-mail of an administrator, and the password if one was generated: it is shown only once.

    Raises InputError for a new account with a password of fewer than 10 characters, unless it
    `may_be_short` and comes from the environment.

    STROEM_ADMIN_EMAIL and STROEM_ADMIN_PASSWORD name the account, else `auth.initial_user`. An
    existing account is promoted and keeps its password. If neither names one, any administrator
    will do, else one is created.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK_FIRST_ADMIN])
    email, password = _initial_user(environ)
    if email:
        known = User.objects.filter(email__iexact=email).first()
        if known is not None:
            _promote(known)
            return known.email, None
    else:
        existing = User.objects.filter(is_superuser=True, is_active=True).order_by("pk").first()
        if existing is not None:
            return existing.email, None
    made_up = None if password else secrets.token_urlsafe(15)
    refusal = short_password(environ)
    is_given = environ.get("STROEM_ADMIN_PASSWORD") == password
    if refusal is not None and not (may_be_short and is_given):
        raise InputError({"password": refusal})
    user = User.objects.create_superuser(email or DEFAULT_EMAIL, password or made_up, shortest=1)
    return user.email, made_up


def _initial_user(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    email = environ.get("STROEM_ADMIN_EMAIL", "").strip()
    if email:
        return email, environ.get("STROEM_ADMIN_PASSWORD") or None
    given: Any = settings.STROEM.auth.initial_user
    if given is not None:
        return given.email, given.password
    return None, environ.get("STROEM_ADMIN_PASSWORD") or None


def _promote(user: User) -> None:
    if not (user.is_superuser and user.is_staff and user.is_active):
        user.is_superuser = user.is_staff = user.is_active = True
        user.save(update_fields=["is_superuser", "is_staff", "is_active"])


__all__ = [
    "REFUSED",
    "SignInRefused",
    "TooMany",
    "check_sign_in",
    "ensure_first_admin",
    "note_sign_in",
    "short_password",
]
