"""The library's settings of second factors that are code."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlsplit

from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings

from apps.workspaces.sealing import seal_bytes, unseal_bytes

NAME = "Stroem"


class FactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]  # untyped
    """Secrets are sealed; passkeys belong to the address of the settings, whatever a request
    calls the server."""

    def encrypt(self, text: str) -> str:
        return base64.b64encode(seal_bytes(text.encode())).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return unseal_bytes(base64.b64decode(encrypted_text)).decode()

    def get_totp_issuer(self) -> str:
        return f"{NAME} ({host()})"

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        return {"id": host(), "name": NAME}

    def send_notification_mail(self, *args: Any, **options: Any) -> None:
        """Ours come from `apps.signin.factors`."""


def host() -> str:
    return urlsplit(settings.BASE_URL).hostname or "localhost"


def offers_passkeys() -> bool:
    """Browsers make passkeys for names only, and over https, or on this machine."""
    name = host()
    is_name = not name.replace(".", "").isdigit() and ":" not in name
    return is_name and (bool(settings.IS_HTTPS) or name == "localhost")
