"""Bearer tokens: access tokens and API keys. Browsers use a session and CSRF."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from apps.accounts import sessions, tokens
from apps.accounts.errors import SignInAgain, TokenRefused
from apps.accounts.models import User
from apps.api import key_scopes

TOO_OLD = "Making an API key takes a sign-in of the last 15 minutes: sign in again"


def bearer_of(request: Request) -> str | None:
    scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


class BearerAuthentication(BaseAuthentication):
    """`Authorization: Bearer <access token or strm_… key>`; sets `request.auth` to "jwt" or
    "key"."""

    def authenticate(self, request: Request) -> tuple[User, str] | None:
        token = bearer_of(request)
        if token is None:
            return None
        try:
            if token.startswith(tokens.KEY_PREFIX):
                user = tokens.user_of_key(token, timezone.now())
                key_scopes.check(user, request.method or "", request.resolver_match)
                return user, "key"
            return tokens.user_of_access(token), "jwt"
        except TokenRefused as error:
            raise AuthenticationFailed(str(error)) from None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # the package's own hook
    target_class = BearerAuthentication
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        return {
            "type": "http",
            "scheme": "bearer",
            "description": "An access token, or an API key (strm_…)",
        }


def insist_on_fresh(request: Request, now: datetime) -> None:
    """Raises SignInAgain: who only got hold of a session or token must not be able to stay."""
    token = bearer_of(request)
    if token is None:
        is_fresh = sessions.is_fresh(request._request)
    else:
        is_fresh = now - tokens.signed_in_at(token) < timedelta(seconds=sessions.FRESH_S)
    if not is_fresh:
        raise SignInAgain(TOO_OLD)


class IsPerson(BasePermission):
    """Refuses API keys: a stolen key must not be able to create another one."""

    message = "API key management requires JWT authentication"

    def has_permission(self, request: Request, view: Any) -> bool:
        return request.auth != "key"


class IsAdministrator(BasePermission):
    message = "Admin privileges required"

    def has_permission(self, request: Request, view: Any) -> bool:
        return bool(request.user.is_active and request.user.is_superuser)
