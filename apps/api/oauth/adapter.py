"""The library's settings that are code: which programs may register."""

from __future__ import annotations

import re
import secrets
from typing import Any
from urllib.parse import urlsplit

from allauth.idp.oidc.adapter import DefaultOIDCAdapter
from django.conf import settings
from django.core.exceptions import ValidationError

from apps.api.oauth import offer

MOST_ADDRESSES = 5
LONGEST_ADDRESS = 500
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PLAIN = re.compile(
    r"[!-)+-~]+"
)  # visible ASCII without *, which the library may take as a pattern
_HOST = re.compile(r"[a-z0-9.:-]+")
_APP_SCHEME = re.compile(r"[a-z][a-z0-9-]*(\.[a-z0-9-]+)+")  # a domain, reversed (RFC 8252, 7.1)


class Adapter(DefaultOIDCAdapter):  # type: ignore[misc]  # untyped
    def generate_client_id(self) -> str:
        return f"mcp_{secrets.token_hex(16)}"

    def get_issuer(self) -> str:
        return str(settings.BASE_URL)

    def validate_client_registration(self, *, client: Any, **more: Any) -> None:
        client.set_default_scopes([offer.SCOPE])
        if not client.name.isprintable():
            raise ValidationError("client_name must be printable text")
        for what, given, offered in (
            ("grant_types", client.get_grant_types(), offer.GRANTS),
            ("response_types", client.get_response_types(), offer.RESPONSES),
        ):
            if not set(given) <= set(offered):
                raise ValidationError(f"{what} must be of: {', '.join(offered)}")
        addresses = client.get_redirect_uris()
        if not 1 <= len(addresses) <= MOST_ADDRESSES:
            raise ValidationError(f"redirect_uris must be 1 to {MOST_ADDRESSES} addresses")
        for address in addresses:
            if (why := refusal(address)) is not None:
                raise ValidationError(f"redirect_uris: '{address[:200]}' {why}")


def refusal(address: str) -> str | None:
    """Why no code may be sent to this address; None if one may."""
    if not _PLAIN.fullmatch(address) or len(address) > LONGEST_ADDRESS:
        return f"must be plain ASCII without '*', at most {LONGEST_ADDRESS} letters"
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return "is no address"
    if "#" in address or "@" in parts.netloc:
        return "must have neither a fragment nor a user"
    if host and not _HOST.fullmatch(host):
        return "has no valid host"
    if (parts.scheme == "https" and host) or (parts.scheme == "http" and host in LOOPBACK):
        return None
    if _APP_SCHEME.fullmatch(parts.scheme):
        return None
    return "must be https, http on localhost, or of an app's own scheme (com.example.app:/...)"


def is_registered(address: str, registered: list[str]) -> bool:
    """Whether it is one of them, letter by letter; only the port on this computer may differ, as
    programs listen where they can (RFC 8252, 7.3)."""
    return address in registered or (
        refusal(address) is None
        and _without_port(address) in {_without_port(one) for one in registered}
    )


def _without_port(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme != "http" or parts.port is None:
        return address
    return parts._replace(netloc=parts.netloc.removesuffix(f":{parts.port}")).geturl()
