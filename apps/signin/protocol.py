"""OpenID Connect with a provider of the settings. State, PKCE and the way there are the library's;
what comes back is checked here."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from allauth.socialaccount.internal import statekit
from allauth.socialaccount.models import SocialApp
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from apps.accounts.sessions import FRESH_S
from apps.signin import wire
from apps.signin.errors import NotAdmitted, ProviderAway, ProviderWrong
from apps.signin.identity import Identity, claim_of, identity_of
from apps.signin.offered import Named, callback_address, named
from apps.signin.providers import IdentityProvider
from apps.workspaces.sealing import seal, unseal

NOT_BEGUN = (
    "This sign-in was not begun in this browser, has ended already, or took longer than ten"
    " minutes. Begin again."
)
NOT_AGAIN = (
    "{} did not ask you to sign in again, so your session here stays as it was. Sign out there,"
    " then try again."
)


@dataclass(frozen=True, slots=True)
class Tokens:
    access: str = field(repr=False)
    refresh: str = field(default="", repr=False)
    id_token: str = field(default="", repr=False)
    expires_at: datetime | None = None

    def sealed(self) -> bytes:
        return seal([self.access, self.refresh, self.id_token])

    @classmethod
    def opened(cls, sealed: bytes | memoryview, expires_at: datetime | None) -> Tokens:
        access, refresh, id_token = unseal(sealed)
        return cls(access, refresh, id_token, expires_at)


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a provider says about somebody."""

    identity: Identity
    tokens: Tokens
    by_refresh: bool = False  # the groups come with ID tokens only
    next: str = ""
    proven_at: int | None = None  # when they last showed it who they are, if it says that


class _Adapter(OpenIDConnectOAuth2Adapter):  # type: ignore[misc]  # untyped
    def get_provider(self) -> Any:
        return _Provider(self.request, app=_app(named()[self.provider_id]))

    @property
    def openid_config(self) -> dict[str, Any]:
        return wire.description(named()[self.provider_id].settings)

    def get_callback_url(self, request: HttpRequest, app: Any) -> str:
        return callback_address(app.provider_id)


class _Provider(OpenIDConnectProvider):  # type: ignore[misc]  # untyped
    oauth2_adapter_class = _Adapter


def _app(provider: Named) -> Any:
    one = provider.settings
    more = {"oauth_pkce_enabled": True, "scope": list(one.scopes), "server_url": one.issuer_url}
    return SocialApp(
        provider="openid_connect",
        provider_id=provider.name,
        name=provider.title,
        client_id=one.client_id,
        secret=one.client_secret or "",
        settings=more,
    )


def begin(request: HttpRequest, provider: Named, next_url: str) -> HttpResponse:
    """Leads to the provider; who has signed in is to do so again there. Raises ProviderAway and
    ProviderWrong."""
    nonce, again = secrets.token_urlsafe(24), request.user.is_authenticated
    wanted = {"nonce": nonce} | ({"prompt": "login"} if again else {})
    answer: HttpResponse = _Provider(request, app=_app(provider)).redirect(
        request, "login", next_url, auth_params=wanted, nonce=nonce, again=again
    )
    return answer


def finish(request: HttpRequest, provider: Named, now: datetime) -> Arrival:
    """Who comes back from the provider. A state is good once, and in its browser only. Raises
    NotAdmitted, ProviderAway and ProviderWrong."""
    given = request.GET
    state = statekit.unstash_state(
        request, provider_id=provider.name, state_id=given.get("state", "")
    )
    if state is None:
        raise NotAdmitted(NOT_BEGUN)
    if given.get("error") == "access_denied":
        raise NotAdmitted(f"{provider.title} did not let you go on, or you did not want to.")
    if "error" in given or not given.get("code"):
        raise ProviderWrong(f"it answered '{given.get('error', 'without a code')[:100]}'")
    form = {
        "grant_type": "authorization_code",
        "code": given["code"],
        "redirect_uri": callback_address(provider.name),
        "code_verifier": state["pkce_code_verifier"],
    }
    tokens, claims = _exchanged(provider.settings, form, now)
    if claims is None:
        raise ProviderWrong("it sent no ID token")
    if claims.get("nonce") != state["nonce"]:
        raise ProviderWrong("its ID token is for another sign-in")
    proven_at = claims.get("auth_time")
    proven_at = int(proven_at) if isinstance(proven_at, int | float) else None
    if state.get("again") and proven_at is not None and now.timestamp() - proven_at >= FRESH_S:
        raise NotAdmitted(NOT_AGAIN.format(provider.title))
    arrival = _arrival(provider.settings, tokens, claims)
    return replace(arrival, next=state.get("next") or "", proven_at=proven_at)


def ask_again(provider: Named, tokens: Tokens, now: datetime, *, by_refresh: bool) -> Arrival:
    """What the provider says now about somebody who came before. Raises NotAdmitted if it no longer
    knows them, ProviderAway and ProviderWrong."""
    one = provider.settings
    if not by_refresh and (tokens.expires_at is None or tokens.expires_at > now):
        told = wire.about_user(one, tokens.access)
        if told is not None:
            return Arrival(identity_of(told, one), tokens)
    if not tokens.refresh:
        raise NotAdmitted("What the provider gave has run out")
    form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh}
    try:
        new, claims = _exchanged(one, form, now)
    except ProviderWrong as error:
        raise NotAdmitted(str(error)) from None
    new = replace(
        new, refresh=new.refresh or tokens.refresh, id_token=new.id_token or tokens.id_token
    )
    if by_refresh and claims is None:
        raise NotAdmitted("The provider no longer sends ID tokens")
    return _arrival(one, new, claims)


def _exchanged(
    provider: IdentityProvider, form: dict[str, str], now: datetime
) -> tuple[Tokens, dict[str, Any] | None]:
    told = wire.tokens(provider, form)
    access, id_token = told.get("access_token"), told.get("id_token") or ""
    if not isinstance(access, str) or not isinstance(id_token, str):
        raise ProviderWrong("its answer holds no access token")
    lifetime = told.get("expires_in")
    ends = now + timedelta(seconds=lifetime) if isinstance(lifetime, int) else None
    claims = wire.verified(provider, id_token) if id_token else None
    return Tokens(access, str(told.get("refresh_token") or ""), id_token, ends), claims


def _arrival(provider: IdentityProvider, tokens: Tokens, claims: dict[str, Any] | None) -> Arrival:
    """The user's data go before the ID token, which holds less at most providers."""
    told = wire.about_user(provider, tokens.access)
    if told is None and wire.has_user_data(provider):
        raise ProviderWrong("it does not accept its own access token")
    if told is not None and claims is not None and told.get("sub") != claims["sub"]:
        raise ProviderWrong("its ID token and its user data are about different people")
    wanted, told = provider.groups_claim, told or {}
    by_refresh = (
        wanted is not None
        and claims is not None
        and claim_of(told, wanted) is None
        and claim_of(claims, wanted) is not None
    ) or not told
    if by_refresh and not tokens.refresh:
        raise ProviderWrong(
            "it tells your groups only when you sign in, so that nobody would notice when you lose"
            " one: let it send them with the user's data (`userinfo`), or give out refresh tokens"
            " (often by the scope `offline_access`)"
        )
    return Arrival(identity_of({**(claims or {}), **told}, provider), tokens, by_refresh)


def farewell_address(provider: Named, tokens: Tokens) -> str | None:
    """Where to end the session at the provider, if it offers that."""
    try:
        there = wire.description(provider.settings).get("end_session_endpoint")
    except (ProviderAway, ProviderWrong):
        return None
    if not isinstance(there, str) or not there.startswith(("https://", "http://")):
        return None
    told = {
        "client_id": provider.settings.client_id,
        "post_logout_redirect_uri": f"{settings.BASE_URL}/admin/login/",
    }
    if tokens.id_token:
        told["id_token_hint"] = tokens.id_token
    return f"{there}{'&' if '?' in there else '?'}{urlencode(told)}"
