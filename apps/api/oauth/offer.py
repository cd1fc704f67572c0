"""What is offered to agents, and where."""

from __future__ import annotations

from typing import Any

from django.conf import settings

SCOPE = "mcp"
RESOURCE_METADATA = "/.well-known/oauth-protected-resource"
GRANTS = ("authorization_code", "refresh_token")
RESPONSES = ("code",)
CLIENT_METHOD = "none"  # of signing in at the token's address: PKCE takes its place


def is_offered() -> bool:
    known = settings.STROEM.mcp
    return bool(known.enabled and known.oauth)


def resource() -> str:
    """What tokens are good for."""
    return f"{settings.BASE_URL}/mcp"


def challenge(error: str = "") -> str:
    """Tells a client without a valid token where to get one."""
    if not is_offered():
        return "Bearer"
    where = f'resource_metadata="{settings.BASE_URL}{RESOURCE_METADATA}/mcp", scope="{SCOPE}"'
    return f'Bearer error="{error}", {where}' if error else f"Bearer {where}"


def of_resource() -> dict[str, Any]:
    """As RFC 9728 describes it."""
    return {
        "resource": resource(),
        "authorization_servers": [settings.BASE_URL],
        "scopes_supported": [SCOPE],
        "bearer_methods_supported": ["header"],
        "resource_name": "Stroem",
    }


def of_server() -> dict[str, Any]:
    """As RFC 8414 describes it."""
    base = settings.BASE_URL
    return {
        "issuer": base,
        "authorization_endpoint": f"{base}/oauth/authorize",
        "token_endpoint": f"{base}/oauth/token",
        "registration_endpoint": f"{base}/oauth/register",
        "scopes_supported": [SCOPE],
        "response_types_supported": list(RESPONSES),
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANTS),
        "token_endpoint_auth_methods_supported": [CLIENT_METHOD],
        "code_challenge_methods_supported": ["S256"],
    }
