"""Access tokens (JWT, 15 minutes), refresh tokens (30 days, rotated) and API keys (`strm_…`) for
programs."""

from __future__ import annotations

import hmac
import secrets
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.db.models.functions import Now

from apps.accounts import alerts, key_scopes, sign_ins
from apps.accounts.errors import TokenRefused
from apps.accounts.hashing import digest_of
from apps.accounts.models import ApiToken, RefreshToken, User
from apps.audit.services import CHANGED, added, note

ACCESS_S = 15 * 60
REFRESH_S = 30 * 24 * 3600
KEY_PREFIX = "strm_"
PREFIX_LENGTH = 12
BAD_TOKEN = "Invalid or expired token"  # noqa: S105  (a sentence, no secret)
_ALGORITHM = "HS256"


@dataclass(frozen=True, slots=True)
class Pair:
    """The tokens of a sign-in or a refresh."""

    access: str = field(repr=False)
    refresh: str = field(repr=False)


def issue_access(user: User, now: datetime, chain: uuid.UUID | None = None) -> str:
    """A bearer token, valid for 15 minutes, only while password and groups stay the same, and only
    until its chain ends."""
    claims = {
        "sub": str(user.pk),
        "email": user.email,
        "is_admin": user.is_superuser,
        "pwd": user.standing,
        "iat": int(now.timestamp()),
        "exp": int(now.timestamp()) + ACCESS_S,
    }
    if chain is not None:
        claims["sid"] = chain.hex
    import jwt  # most processes issue and read no tokens

    return jwt.encode(claims, _signing_keys()[0], algorithm=_ALGORITHM)


def user_of_access(token: str) -> User:
    """The active user that `token` was issued to. Raises TokenRefused."""
    return _owner(_claims(token))


def _claims(token: str) -> dict[str, object]:
    import jwt

    for key in _signing_keys():
        try:
            # `aud` is not ours: tokens issued for another audience are refused by PyJWT when none
            # is expected.
            claims: dict[str, object] = jwt.decode(
                token, key, algorithms=[_ALGORITHM], options={"require": ["exp", "sub", "pwd"]}
            )
        except jwt.InvalidSignatureError:
            continue
        except (jwt.InvalidTokenError, UnicodeError):
            break
        return claims
    raise TokenRefused(BAD_TOKEN)


def _owner(claims: dict[str, object]) -> User:
    subject = str(claims["sub"])
    chain = _chain(claims)
    unbroken = {} if chain is None else {"refresh_tokens__chain": chain}
    user = (
        User.objects.filter(is_active=True, pk=int(subject), **unbroken).first()
        if subject.isdecimal()
        else None
    )
    if user is None or not hmac.compare_digest(user.standing, str(claims["pwd"])):
        raise TokenRefused(BAD_TOKEN)
    return user


def _chain(claims: dict[str, object]) -> uuid.UUID | None:
    try:
        return uuid.UUID(hex=str(claims["sid"])) if "sid" in claims else None
    except ValueError:
        raise TokenRefused(BAD_TOKEN) from None


def signed_in_at(token: str) -> datetime:
    """When somebody proved who they are, to get this access token or those before it. Raises
    TokenRefused."""
    claims = _claims(token)
    begun = None
    if (chain := _chain(claims)) is not None:
        links = RefreshToken.objects.filter(chain=chain).order_by("created_at")
        begun = links.values_list("created_at", flat=True).first()
    return begun or datetime.fromtimestamp(int(str(claims["iat"])), UTC)


def begin_chain(user: User, now: datetime) -> Pair:
    """The tokens of a fresh sign-in."""
    chain = uuid.uuid4()
    return Pair(issue_access(user, now, chain), _link(user, chain, now))


def rotate(token: str, now: datetime) -> Pair:
    """New tokens for an unused refresh token; reuse ends the whole chain."""
    digest = digest_of(token)
    moved = RefreshToken.objects.filter(digest=digest, used_at=None).update(used_at=Now())
    row = RefreshToken.objects.select_related("user").filter(digest=digest).first()
    if row is None:
        raise TokenRefused("Invalid refresh token")
    if not moved:
        RefreshToken.objects.filter(chain=row.chain).delete()
        sign_ins.note_ended(row.user.email, "a refresh token was used twice")
        raise TokenRefused("Invalid refresh token")
    if row.expires_at <= now:
        raise TokenRefused("Refresh token expired")
    if not row.user.is_active or not hmac.compare_digest(row.credential, row.user.standing):
        raise TokenRefused("User not found")
    return Pair(issue_access(row.user, now, row.chain), _link(row.user, row.chain, now))


def end_chain(token: str) -> None:
    """Sign out: the chain of this refresh token ends, and its access tokens with it. Unknown tokens
    are no error."""
    row = RefreshToken.objects.filter(digest=digest_of(token)).first()
    if row is not None:
        _end_chain(row.chain)


def end_chain_of_access(token: str) -> None:
    """Sign out with an access token alone."""
    with suppress(TokenRefused):
        if (chain := _chain(_claims(token))) is not None:
            _end_chain(chain)


@transaction.atomic
def _end_chain(chain: uuid.UUID) -> None:
    rows = RefreshToken.objects.filter(chain=chain)
    email = rows.values_list("user__email", flat=True).first()
    if email is not None:
        rows.delete()
        sign_ins.note_ended(email)


def forget_expired() -> int:
    """Remove refresh tokens past their end; returns how many."""
    return RefreshToken.objects.filter(expires_at__lt=Now()).delete()[0]


def make_key(
    user: User,
    name: str,
    expires_at: datetime | None = None,
    *,
    scopes: Sequence[str] = key_scopes.EVERYTHING,
    workspaces: Sequence[str] = (),
    by: str = "",
) -> tuple[str, ApiToken]:
    """A new API key and its row. The key is returned only here and never stored. Raises
    InputError."""
    scopes, workspaces = key_scopes.checked(scopes, workspaces)
    while True:
        key = KEY_PREFIX + secrets.token_hex(32)
        try:
            with transaction.atomic():
                row = ApiToken.objects.create(
                    user=user,
                    name=name,
                    prefix=key[:PREFIX_LENGTH],
                    digest=digest_of(key),
                    credential=user.credential,
                    expires_at=expires_at,
                    scopes=scopes,
                    workspaces=workspaces,
                )
                told = {"scopes": scopes, "workspaces": workspaces, "expires_at": expires_at}
                note("api-key.add", f"{user.email}: {row}", by=by, changes=added(**told))
                _tell(row, "A new API key", "An API key was made that acts as you", by)
        except IntegrityError:  # a prefix is 28 bits: two keys may share one
            continue
        return key, row


def rotate_key(row: ApiToken, overlap: timedelta, now: datetime) -> str:
    """A new secret for this key, returned only here. The old one stays good for the overlap. The
    first letters, which name the key, stay the same."""
    fresh = row.prefix + secrets.token_hex(32)[: len(KEY_PREFIX) + 64 - PREFIX_LENGTH]
    with transaction.atomic():
        held = ApiToken.objects.select_for_update(no_key=True).get(pk=row.pk)
        held.previous_digest = held.digest if overlap else None
        held.previous_until = now + overlap if overlap else None
        held.digest = digest_of(fresh)
        held.credential = held.user.credential
        held.save(update_fields=["digest", "credential", "previous_digest", "previous_until"])
        told = (
            f"the old secret is good until {held.previous_until:%Y-%m-%d %H:%M} UTC"
            if overlap
            else ""
        )
        note(
            "api-key.rotate", f"{held.user.email}: {held}", changes={"secret": CHANGED}, detail=told
        )
        _tell(held, "An API key has a new secret", "An API key that acts as you has a new secret")
    row.previous_until = held.previous_until
    return fresh


def _tell(row: ApiToken, subject: str, what: str, by: str = "") -> None:
    """Its person, who may not be the one who did it."""
    scopes = f"with the scopes {', '.join(row.scopes)}"
    where = f" on the workspaces {', '.join(row.workspaces)}" if row.workspaces else ""
    named = f"{alerts.quoted(row.name)} ({row.prefix}…)"
    said = f"{what}: {named}, {scopes}{where}.{alerts.until(row.expires_at)}"
    alerts.tell(row.user, subject, said, by=by)


def revoke_key(row: ApiToken) -> None:
    with transaction.atomic():
        note("api-key.revoke", f"{row.user.email}: {row}")
        row.delete()


def user_of_key(key: str, now: datetime) -> User:
    """The active user whose API key this is, as far as the key goes. Raises TokenRefused."""
    digest = digest_of(key)
    known = Q(digest=digest) | Q(previous_digest=digest, previous_until__gt=now)
    row = ApiToken.objects.select_related("user").filter(known).first()
    if (
        row is None
        or not row.user.is_active
        or not hmac.compare_digest(row.credential, row.user.credential)
    ):
        raise TokenRefused("Invalid API key")
    if row.expires_at is not None and row.expires_at <= now:
        raise TokenRefused("API key expired")
    _note_use(row)
    return key_scopes.acting_with(row, row.user)


def _note_use(row: ApiToken) -> None:
    # Once a minute is enough to see whether a key is in use, and keeps reads from becoming writes.
    stale = Q(last_used_at=None) | Q(last_used_at__lt=Now() - timedelta(minutes=1))
    ApiToken.objects.filter(stale, pk=row.pk).update(last_used_at=Now())


def expiry_after(days: int | None, now: datetime) -> datetime | None:
    return None if days is None else now + timedelta(days=days)


def _link(user: User, chain: uuid.UUID, now: datetime) -> str:
    token = secrets.token_urlsafe(32)
    RefreshToken.objects.create(
        user=user,
        digest=digest_of(token),
        chain=chain,
        credential=user.standing,
        expires_at=now + timedelta(seconds=REFRESH_S),
    )
    return token


def _signing_keys() -> list[bytes]:
    """The signing key, then older ones that still verify; derived, never the sealing keys
    themselves."""
    own = settings.STROEM.auth.jwt_secret
    masters = [own] if own else [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [hmac.digest(master.encode(), b"stroem access token", "sha256") for master in masters]
