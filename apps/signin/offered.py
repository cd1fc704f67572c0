"""The identity providers that the settings offer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.conf import settings

from apps.signin.providers import IdentityProvider


@dataclass(frozen=True, slots=True)
class Named:
    """A provider and its name in the settings."""

    name: str
    settings: IdentityProvider

    @property
    def title(self) -> str:
        return self.settings.display_name or self.name


def named() -> dict[str, Named]:
    """The providers of the settings."""
    found: Mapping[str, IdentityProvider] = settings.STROEM.auth.providers
    return {name: Named(name, one) for name, one in found.items() if one.provider_type == "oidc"}


def callback_address(name: str) -> str:
    return f"{settings.BASE_URL}/admin/login/with/{name}/callback/"
