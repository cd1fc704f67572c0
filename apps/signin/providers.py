"""The settings of an identity provider. Without Django: they are read before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from engine.settings.readers import web_address

SCOPES = ("openid", "profile", "email")


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """Who may come from there, and what their groups mean here."""

    needs: ClassVar[str] = " needs `issuer_url` and `client_id`"
    provider_type: Literal["oidc", "internal"] = "oidc"
    display_name: str | None = None
    issuer_url: Annotated[str | None, web_address] = None
    client_id: str | None = None
    client_secret: str | None = field(default=None, repr=False)
    scopes: tuple[str, ...] = SCOPES
    allow_sign_up: bool = False
    link_by_email: bool = False
    trust_email: bool = False
    groups_claim: str | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    default_groups: tuple[str, ...] = ()
    admin_groups: tuple[str, ...] = ()
    required_groups: tuple[str, ...] = ()

    def find_objection(self) -> str | None:
        if self.provider_type == "internal":  # the form for passwords, which is always there
            others = self.issuer_url or self.client_id or self.client_secret or self.groups_claim
            return "of provider_type internal has only a `display_name`" if others else None
        if self.issuer_url is None or self.client_id is None:
            return "needs `issuer_url` and `client_id`"
        if "openid" not in self.scopes:
            return "needs `openid` among its `scopes`"
        if self.groups_claim is None and (self.groups or self.admin_groups or self.required_groups):
            return "needs `groups_claim`: without it, nobody's groups are known"
        return None
