"""Signing in a program without a browser (the shape of RFC 8628): it asks for a code, a person
confirms the code on a page, and the program gets an API key of theirs, once."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now

from apps.accounts import key_scopes, tokens
from apps.accounts.hashing import digest_of
from apps.accounts.models import ApiToken, DeviceLogin, User
from apps.audit.services import note
from engine.errors import NotFound

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"  # no vowels: no words
LENGTH = 8
LASTS = timedelta(minutes=10)
INTERVAL = timedelta(seconds=5)
KEY_DAYS = 90
NO_CODE = "There is no such code, or it is over: ask for a new one"


class Waiting(StrEnum):
    """Why there is no key, in the words of RFC 8628."""

    PENDING = "authorization_pending"
    SLOW_DOWN = "slow_down"
    DENIED = "access_denied"
    EXPIRED = "expired_token"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the program gets to know. `secret` is kept by nobody else."""

    secret: str = field(repr=False)
    code: str = field(repr=False)


def ask(name: str, address: str, scopes: Sequence[str], now: datetime) -> Asked:
    """Raises InputError."""
    wanted, _ = key_scopes.checked(scopes, ())
    secret = secrets.token_urlsafe(32)
    while True:
        code = "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
        try:
            with transaction.atomic():
                DeviceLogin.objects.create(
                    digest=digest_of(secret),
                    code=code,
                    name=_plain(name),
                    address=address,
                    scopes=wanted,
                    expires_at=now + LASTS,
                )
        except IntegrityError:  # another program has this code just now
            continue
        return Asked(secret, f"{code[:4]}-{code[4:]}")


def found(code: str) -> DeviceLogin:
    """What waits for this code, as somebody typed it. Raises NotFound."""
    plain = "".join(letter for letter in code.upper() if letter.isalnum())[: LENGTH + 1]
    rows = DeviceLogin.objects.filter(expires_at__gt=Now(), user=None, denied_at=None)
    row = rows.filter(code=plain).first()
    if row is None:
        raise NotFound(NO_CODE)
    return row


@transaction.atomic
def answer(row: DeviceLogin, user: User, *, confirmed: bool) -> None:
    """A person lets the program in, or not. A code is answered once. Raises NotFound."""
    open_ones = DeviceLogin.objects.filter(pk=row.pk, user=None, denied_at=None)
    values = {"user": user, "credential": user.credential} if confirmed else {"denied_at": Now()}
    if not open_ones.filter(expires_at__gt=Now()).update(**values):
        raise NotFound(NO_CODE)
    note("device.confirm" if confirmed else "device.deny", row, by=user.email)


@transaction.atomic
def exchange(secret: str, now: datetime) -> tuple[str, ApiToken] | Waiting:
    """The key, once; or why there is none yet, or never."""
    rows = DeviceLogin.objects.select_for_update(of=("self",)).select_related("user")
    row = rows.filter(digest=digest_of(secret)).first()
    if row is None or row.expires_at <= now:
        return Waiting.EXPIRED
    if row.denied_at is not None:
        return Waiting.DENIED
    if row.user is None:
        return _polled(row, now)
    user, name, scopes = row.user, row.name, row.scopes
    row.delete()
    if not user.is_active or not hmac.compare_digest(row.credential, user.credential):
        return Waiting.DENIED
    ends = tokens.expiry_after(KEY_DAYS, now)
    return tokens.make_key(user, name, ends, scopes=scopes, by=user.email)


def _polled(row: DeviceLogin, now: datetime) -> Waiting:
    fresh = Q(polled_at=None) | Q(polled_at__lte=now - INTERVAL)
    in_time = DeviceLogin.objects.filter(fresh, pk=row.pk).update(polled_at=now)
    return Waiting.PENDING if in_time else Waiting.SLOW_DOWN


def forget_expired() -> int:
    """A minute later than they are over, so that the program is told."""
    over = DeviceLogin.objects.filter(expires_at__lt=Now() - timedelta(minutes=1))
    return over.delete()[0]


def _plain(name: str) -> str:
    """On one line, whatever a program calls itself."""
    letters = "".join(letter if letter.isprintable() else " " for letter in name)
    return " ".join(letters.split())[:150] or "a program without a name"
