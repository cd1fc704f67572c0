"""What an API key may be used for: its scopes, and the workspaces that it is limited to. A key
never gives more than its owner has: it narrows their grants."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from apps.accounts.models import ApiToken, Scope, User
from engine.errors import InputError
from engine.rights import ALL_RIGHTS, NO_RIGHTS, OF_VIEWERS, Right, Rights, Rule, matches

EVERYTHING = (Scope.ADMIN,)
# What keys of these scopes leave of their owner's rights.
RIGHTS: Mapping[Scope, Rights] = {
    Scope.READ: OF_VIEWERS,
    Scope.RUN: OF_VIEWERS | {Right.RUN},
    Scope.DECIDE: OF_VIEWERS | {Right.APPROVE},
    Scope.ADMIN: ALL_RIGHTS,
}
INCLUDED = {Scope.RUN: {Scope.READ}, Scope.ADMIN: set(Scope)}
MOST_PATTERNS = 50
_PATTERN = re.compile(r"[A-Za-z0-9_*-]{1,200}")


@dataclass(frozen=True, slots=True)
class Limits:
    """How a key narrows the rights of its owner."""

    owner: User
    scopes: frozenset[Scope]
    patterns: tuple[str, ...]

    def narrowed(self, rules: Iterable[Rule]) -> tuple[Rule, ...]:
        """What the key leaves of the owner's grants; denials stay."""
        left = NO_RIGHTS.union(*(RIGHTS[scope] for scope in self.scopes))
        return tuple(
            rule if rule.denies else replace(rule, rights=rule.rights & left) for rule in rules
        )

    def covers(self, workspace: str) -> bool:
        fits = not self.patterns or any(matches(each, workspace) for each in self.patterns)
        return fits and bool(self.scopes)


def scopes_of(key: ApiToken) -> frozenset[Scope]:
    """Those that it has, and those that they include."""
    own = {Scope(each) for each in key.scopes}
    return frozenset(own.union(*(INCLUDED.get(each, set()) for each in own)))


def acting_with(key: ApiToken, owner: User) -> User:
    """The owner, as far as the key goes. Superusers' rights that belong to no workspace need the
    scope `admin`, and no limit to workspaces."""
    scopes, patterns = scopes_of(key), tuple(key.workspaces)
    user = copy.copy(owner)
    for known in [name for name in vars(user) if name.startswith("_stroem_")]:
        delattr(user, known)  # what was read of the owner
    user.key = key
    if Scope.ADMIN in scopes and not patterns:
        return user
    user.is_superuser = False
    user.limits = Limits(owner, scopes, patterns)
    return user


def lacks(user: User, any_of: Iterable[Scope]) -> str | None:
    """Why the key of this user may not be used for this, if it may not; None without a key."""
    wanted = tuple(any_of)
    if user.key is None or scopes_of(user.key).intersection(wanted):
        return None
    return f"This API key lacks the scope {' or '.join(sorted(wanted))}"


def checked(scopes: Sequence[str], patterns: Sequence[str]) -> tuple[list[str], list[str]]:
    """Scopes and patterns of a new key. Raises InputError."""
    unknown = [each for each in scopes if each not in set(Scope)]
    problems = {}
    if unknown or not scopes:
        begins = f"'{unknown[0][:60]}' is no scope" if unknown else "a key needs at least one scope"
        problems["scopes"] = f"{begins}: known are {', '.join(Scope)}"
    wrong = [each for each in patterns if not _PATTERN.fullmatch(each)]
    if wrong:
        problems["workspaces"] = (
            f"'{wrong[0][:60]}' is no pattern: it may contain letters, digits, '-', '_' and '*'"
        )
    if len(patterns) > MOST_PATTERNS:
        problems["workspaces"] = f"at most {MOST_PATTERNS} patterns"
    if problems:
        raise InputError(problems)
    return [each for each in Scope if each in scopes], sorted(set(patterns))
