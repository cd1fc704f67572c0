"""Programs that people let in at /mcp. The protocol and its tokens are the library's; what a token
is good for is decided here, as for API keys.

Only server and scheduler have the library: the functions import it.
"""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now

from apps.accounts import alerts
from apps.accounts.errors import TokenRefused
from apps.accounts.hashing import digest_of
from apps.accounts.models import ConnectedAgent, SpentToken, User
from apps.audit.services import note

KEPT = timedelta(days=30)  # registrations that nobody let in
USE_NOTED = timedelta(minutes=1)
BAD_TOKEN = "Invalid or expired token"  # noqa: S105  (a sentence, no secret)


def let_in(user: User, code: str) -> None:
    """The person has agreed: remember under which password and groups. Called with the new code."""
    from allauth.idp.oidc.models import Token

    row = Token.objects.select_related("client").by_value(code).get(type="ac")
    with transaction.atomic():
        agent = ConnectedAgent.objects.create(
            user=user,
            grant=row.get_grant_id(),
            client_id=row.client_id,
            name=row.client.name,
            credential=user.standing,
            expires_at=Now() + _lifetime(),
        )
        note("connected-agent.add", agent, by=user.email)
        named = alerts.quoted(agent.name or agent.client_id)
        said = f"You let an agent in at /mcp, where it can act as you: {named}."
        alerts.tell(user, "An agent was let in", said, by=user.email)


def user_of(token: str, resource: str, now: datetime) -> User:
    """The active user for whom a program may act with this access token. Raises TokenRefused."""
    from allauth.idp.oidc.models import Token

    row = Token.objects.lookup("at", token)
    agent = None if row is None else _agent(row)
    if row is None or agent is None or row.user_id != agent.user_id:
        raise TokenRefused(BAD_TOKEN)
    if "mcp" not in row.get_scopes() or row.get_resources() not in ([], [resource]):
        raise TokenRefused(BAD_TOKEN)
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - USE_NOTED)
    ConnectedAgent.objects.filter(stale, pk=agent.pk).update(last_used_at=Now())
    return agent.user


def _agent(row: Any) -> ConnectedAgent | None:
    """Whose token it is, if the person is still active, with the same password and groups."""
    grant = row.get_grant_id() or ""
    agent = ConnectedAgent.objects.select_related("user").filter(grant=grant).first()
    if agent is None or not agent.user.is_active:
        return None
    return agent if hmac.compare_digest(agent.credential, agent.user.standing) else None


def before_refresh(token: str) -> str | None:
    """Lock a refresh token that is about to be used; returns its grant. One that was used before,
    or under another password or other groups, ends its chain: the library then knows no such
    token."""
    from allauth.idp.oidc.models import Token

    row = Token.objects.by_value(token).filter(type="rt").select_for_update().first()
    if row is not None:
        grant = str(row.get_grant_id() or "")
        if _agent(row) is not None:
            return grant
        _end(grant)
        return None
    spent = SpentToken.objects.select_related("agent").filter(digest=digest_of(token)).first()
    if spent is not None:
        revoke(spent.agent, because="a refresh token was used twice")
    return None


def after_refresh(token: str, grant: str) -> None:
    """Remember that it was used."""
    agent = ConnectedAgent.objects.get(grant=grant)
    SpentToken.objects.create(agent=agent, digest=digest_of(token))
    ConnectedAgent.objects.filter(pk=agent.pk).update(expires_at=Now() + _lifetime())


def revoke(agent: ConnectedAgent, *, because: str = "") -> None:
    """End all its tokens."""
    with transaction.atomic():
        note("connected-agent.revoke", agent, detail=because)
        _end(agent.grant)
        agent.delete()


def forget_expired() -> int:
    """Remove what is over: tokens, programs without tokens, registrations that nobody let in."""
    if not settings.HAS_ALLAUTH:  # `run`, which lets nobody in
        return 0
    from allauth.idp.oidc.models import Client, Token

    Token.objects.expired().delete()
    SpentToken.objects.filter(used_at__lt=Now() - _lifetime()).delete()
    gone, _ = ConnectedAgent.objects.filter(expires_at__lt=Now()).delete()
    known = ConnectedAgent.objects.values("client_id")
    Client.objects.filter(created_at__lt=Now() - KEPT).exclude(pk__in=known).delete()
    return gone


def _end(grant: str) -> None:
    from allauth.idp.oidc.models import Token

    Token.objects.filter(data__grant_id=grant).delete()


def _lifetime() -> timedelta:
    return timedelta(seconds=settings.IDP_OIDC_REFRESH_TOKEN_EXPIRES_IN)
