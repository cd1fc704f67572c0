"""Signing in, and the first administrator."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import BoundedSemaphore, Lock
from typing import Any

from django.conf import settings
from django.contrib.auth.models import update_last_login
from django.db import connection, transaction

from apps.accounts import sign_ins
from apps.accounts.errors import SignInRefused, TooMany
from apps.accounts.models import User
from apps.accounts.querysets import SHORTEST_PASSWORD
from apps.accounts.throttles import address_range, count, is_known, remember, spent, throttle_key
from apps.audit.services import added, changes_of, note
from engine.errors import InputError

log = logging.getLogger("stroem.accounts")
REFUSED = "Invalid email or password"
DEFAULT_EMAIL = "admin@localhost"
ACCOUNT_LIMIT, ADDRESS_LIMIT, WINDOW_S = 5, 20, 60
LONGEST_PASSWORD = 1024
MOST_CHECKS, MOST_WAITING = 2, 6
MOST_SUSPECTS_WAITING = 2
_LOCK_FIRST_ADMIN = 0x5_7120E_01


class _Places:
    """`running` at once, `waiting` more; the rest are asked to come back."""

    def __init__(self, running: int, waiting: int) -> None:
        self._running = BoundedSemaphore(running)
        self._all = BoundedSemaphore(running + waiting)

    @contextmanager
    def place(self) -> Iterator[None]:
        if not self._all.acquire(blocking=False):
            raise TooMany(1)
        try:
            with self._running:
                yield
        finally:
            self._all.release()


_checks, _suspected = _Places(MOST_CHECKS, MOST_WAITING), _Places(1, MOST_SUSPECTS_WAITING)
_suspects: set[str] = set()
_suspects_lock = Lock()


def check_sign_in(email: str, password: str, address: str) -> User:
    """The active user with this e-mail and password: a right password always passes.

    Raises SignInRefused, always with the same text after the same work, or TooMany: after 5
    failures a minute of an account, or 20 of an address, counted over all server processes. Then
    guesses are still checked, but one at a time, and one of each address. Guesses at an account
    do not slow an address from which it was signed in to before.
    """
    user = _find(email, password)
    subject = f"id {user.pk}" if user is not None else email.strip().lower()
    place = address_range(address)
    of_address, of_account = (
        throttle_key("login-address", place),
        throttle_key("login-account", subject),
    )
    limits = {of_address: ADDRESS_LIMIT, of_account: ACCOUNT_LIMIT}
    over = spent(limits, window_s=WINDOW_S)
    is_suspect = bool(over) and not (over == {of_account} and is_known(subject, place))
    if not connection.in_atomic_block:
        connection.close()  # others need it more than who waits, or computes a hash
    try:
        with _turn(place if is_suspect else None):
            is_right = _is_right(user, password)
    except TooMany:
        sign_ins.note_throttled(user.email if user else _unknown(email), subject, place)
        raise
    if user is not None and is_right:
        remember(subject, place)
        return user
    log.warning("a sign-in was refused", extra={"fields": {"address": address}})
    waits = [count(key, limit=limit, window_s=WINDOW_S) for key, limit in limits.items()]
    who = user.email if user is not None else _unknown(email)
    if late := [wait_s for wait_s in waits if wait_s is not None]:
        sign_ins.note_throttled(who, subject, place)
        raise TooMany(max(late))
    sign_ins.note_refused(who)
    raise SignInRefused(REFUSED)


def _unknown(email: str) -> str:
    """What is told of one that is not there: people type passwords in the wrong field."""
    return (
        f"unknown account {email.strip()}"
        if _is_storable(email, "") and "@" in email
        else ("unknown account")
    )


@contextmanager
def _turn(suspect: str | None) -> Iterator[None]:
    """A password check takes 64 MB and a third of a second of a core: few run at once, a few more
    wait, and the rest are asked to come back. An address that guesses has one turn at a time, and
    all such addresses share one of the places."""
    if suspect is None:
        with _checks.place():
            yield
        return
    with _suspects_lock:
        if suspect in _suspects:
            raise TooMany(1)
        _suspects.add(suspect)
    try:
        with _suspected.place(), _checks.place():
            yield
    finally:
        with _suspects_lock:
            _suspects.remove(suspect)


def _find(email: str, password: str) -> User | None:
    return User.objects.with_email(email).first() if _is_storable(email, password) else None


def _is_right(user: User | None, password: str) -> bool:
    if user is None:
        User().set_password(
            "the work of one hash, so that an unknown account takes as long as a known one"
        )
        return False
    return user.check_password(password) and user.is_active and not user.is_service


def _is_storable(email: str, password: str) -> bool:
    """False for text that the database cannot look up, so that no account can have it."""
    try:
        (email + password).encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in email + password and len(password) <= LONGEST_PASSWORD


def note_sign_in(user: User) -> None:
    with transaction.atomic():
        update_last_login(User, user)
        sign_ins.note_begun(user)


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
        known = User.objects.with_email(email).first()
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
    note("user.add", user.email, changes=added(is_superuser=True))
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
        flags = ("is_superuser", "is_staff", "is_active")
        before = {flag: getattr(user, flag) for flag in flags}
        note("user.change", user.email, changes=changes_of(before, dict.fromkeys(flags, True)))
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
