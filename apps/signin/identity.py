"""Who somebody is, by the claims of a provider. Without the database and without the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.signin.errors import ProviderWrong
from apps.signin.providers import IdentityProvider

LONGEST_SUBJECT = 191  # the column of the library's table
LONGEST_NAME = 150
MOST_GROUPS = 2_000


@dataclass(frozen=True, slots=True)
class Identity:
    subject: str
    email: str
    is_email_verified: bool
    name: str
    groups: frozenset[str] | None  # as the provider calls them; None: it is not asked for them

    def wears(self, groups: tuple[str, ...]) -> bool:
        return not (self.groups or frozenset()).isdisjoint(groups)


def identity_of(claims: Mapping[str, Any], provider: IdentityProvider) -> Identity:
    """Raises ProviderWrong for claims that are no such thing."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT:
        raise ProviderWrong("it does not say who you are (`sub`)")
    email = claims.get("email")
    if not isinstance(email, str) or "\x00" in email + subject:
        email = ""
    return Identity(
        subject=subject.replace("\x00", ""),
        email=email.strip(),
        is_email_verified=bool(email) and (provider.trust_email or _is_verified(claims)),
        name=_name(claims),
        groups=None if provider.groups_claim is None else _groups(claims, provider.groups_claim),
    )


def _is_verified(claims: Mapping[str, Any]) -> bool:
    return claims.get("email_verified") in (True, "true")


def _name(claims: Mapping[str, Any]) -> str:
    name = claims.get("name")
    return name.replace("\x00", "").strip()[:LONGEST_NAME] if isinstance(name, str) else ""


def claim_of(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, or by the way to it: `realm_access.roles`. None without it."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def _groups(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """Without the claim: none. Providers leave it out for people without groups."""
    elsewhere = claims.get("_claim_names")
    if isinstance(elsewhere, Mapping) and name in elsewhere:
        raise ProviderWrong(
            f"it leaves out your groups (`{name}`), as they are too many; let it send only the"
            " groups of this application"
        )
    found = claim_of(claims, name)
    if found is None:
        return frozenset()
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise ProviderWrong(f"the claim `{name}` is no list of names of groups")
    if len(listed) > MOST_GROUPS:
        raise ProviderWrong(f"the claim `{name}` holds more than {MOST_GROUPS:,} groups")
    return frozenset(one.replace("\x00", "").strip() for one in listed) - {""}


def groups_here(identity: Identity, provider: IdentityProvider) -> frozenset[str]:
    """The names of our groups: those that the settings map, else the provider's own names."""
    theirs = identity.groups or frozenset()
    mapped = {provider.groups[one] for one in theirs if one in provider.groups}
    return frozenset(mapped if provider.groups else theirs) | set(provider.default_groups)
