"""Asks identity providers: what they describe about themselves, tokens, data of users."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jwt
from allauth.socialaccount.adapter import get_adapter
from requests import RequestException, Response
from requests.auth import HTTPBasicAuth

from apps.signin.errors import ProviderAway, ProviderWrong
from apps.signin.providers import IdentityProvider

KEPT_S = 600.0
RETRY_KEYS_S = 10.0
LEEWAY_S = 60
ALGORITHMS = (
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
NEEDED = ("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri")
_kept: dict[str, tuple[float, dict[str, Any]]] = {}


def forget() -> None:
    _kept.clear()


def description(provider: IdentityProvider) -> dict[str, Any]:
    """What the provider publishes about itself. Raises ProviderAway and ProviderWrong."""
    issuer = str(provider.issuer_url)
    found = _fetched(f"{issuer}/.well-known/openid-configuration", KEPT_S)
    if lacking := [name for name in NEEDED if not isinstance(found.get(name), str)]:
        raise ProviderWrong(f"its description lacks {', '.join(lacking)}")
    if found["issuer"].rstrip("/") != issuer:
        raise ProviderWrong(f"it calls itself {found['issuer'][:200]}; `issuer_url` says {issuer}")
    return found


def _fetched(address: str, kept_s: float) -> dict[str, Any]:
    known = _kept.get(address)
    if known is not None and time.monotonic() - known[0] < kept_s:
        return known[1]
    found = _json(_asked("GET", address))
    _kept[address] = (time.monotonic(), found)
    return found


def _asked(method: str, address: str, **more: Any) -> Response:
    try:
        with get_adapter().get_requests_session() as session:
            answer: Response = session.request(method, address, allow_redirects=False, **more)
    except RequestException as error:
        raise ProviderAway(f"{address}: {type(error).__name__}") from None
    if answer.status_code >= 500 or answer.status_code == 429:
        raise ProviderAway(f"{address} answered {answer.status_code}")
    return answer


def _json(answer: Response) -> dict[str, Any]:
    if answer.status_code != 200:
        raise ProviderWrong(f"{answer.url} answered {answer.status_code}{_reason(answer)}")
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ProviderWrong(f"{answer.url} answered no JSON object")
    return found


def _reason(answer: Response) -> str:
    """The error of RFC 6749, if it is one."""
    try:
        found = answer.json()
    except ValueError:
        return ""
    reason = found.get("error") if isinstance(found, dict) else None
    return f": {reason[:100]}" if isinstance(reason, str) else ""


def tokens(provider: IdentityProvider, form: Mapping[str, str]) -> dict[str, Any]:
    """Tokens for a code or a refresh token. Raises ProviderAway and ProviderWrong."""
    described = description(provider)
    client, secret = str(provider.client_id), provider.client_secret
    methods = described.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    more: dict[str, Any] = {"data": {**form, "client_id": client}}
    if secret is not None and "client_secret_post" in methods:
        more["data"]["client_secret"] = secret
    elif secret is not None:
        more = {"data": form, "auth": HTTPBasicAuth(client, secret)}
    return _json(_asked("POST", described["token_endpoint"], **more))


def has_user_data(provider: IdentityProvider) -> bool:
    return isinstance(description(provider).get("userinfo_endpoint"), str)


def about_user(provider: IdentityProvider, access: str) -> dict[str, Any] | None:
    """The data of the user; None if the token is not accepted, or there are no such data. Raises
    ProviderAway and ProviderWrong."""
    if not has_user_data(provider):
        return None
    address = description(provider)["userinfo_endpoint"]
    answer = _asked("GET", address, headers={"Authorization": f"Bearer {access}"})
    return None if answer.status_code in (400, 401, 403) else _json(answer)


def verified(provider: IdentityProvider, id_token: str) -> dict[str, Any]:
    """The claims of an ID token that the provider signed for us. Raises ProviderAway and
    ProviderWrong."""
    described = description(provider)
    try:
        head = jwt.get_unverified_header(id_token)
        key = _key(described["jwks_uri"], head.get("kid"))
        claims: dict[str, Any] = jwt.decode(
            id_token,
            key,
            algorithms=list(ALGORITHMS),
            audience=provider.client_id,
            issuer=described["issuer"],
            leeway=LEEWAY_S,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
    except (jwt.PyJWTError, TypeError, ValueError) as error:
        raise ProviderWrong(f"its ID token is not valid: {error}") from None
    if claims.get("azp", provider.client_id) != provider.client_id:
        raise ProviderWrong("its ID token is for another client")
    return claims


def _key(address: str, kid: str | None) -> Any:
    """The key of this id, asked for again if it is unknown: providers change their keys."""
    for kept_s in (KEPT_S, RETRY_KEYS_S):
        listed = _fetched(address, kept_s).get("keys") or []
        found = [one for one in listed if kid is None or one.get("kid") == kid]
        usable = [one for one in found if one.get("use", "sig") == "sig"]
        if len(usable) == 1:
            return jwt.PyJWK.from_dict(usable[0]).key
    raise ProviderWrong("its ID token is signed by a key that it does not publish")
