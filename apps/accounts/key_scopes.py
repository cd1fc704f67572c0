"""What an API key may be used for: its scopes, and the workspaces that it is limited to. A key
never gives more than its owner has: it narrows what `grants` says of them."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db.models import Q

from apps.accounts.grants import NOTHING, RANK, expression, matches
from apps.accounts.models import ApiToken, Role, Scope, User
from engine.errors import InputError

EVERYTHING = (Scope.ADMIN,)
# The widest role that a key of these scopes can have somewhere.
CEILING = {
    Scope.READ: Role.VIEWER,
    Scope.RUN: Role.OPERATOR,
    Scope.DECIDE: Role.VIEWER,
    Scope.ADMIN: Role.ADMIN,
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

    @property
    def ceiling(self) -> Role:
        return max((CEILING[scope] for scope in self.scopes), key=RANK.__getitem__)

    def role(self, workspace: str, of_owner: Role | None) -> Role | None:
        """On this workspace, if the owner has that one."""
        if of_owner is None or not self.covers(workspace):
            return None
        return min(of_owner, self.ceiling, key=RANK.__getitem__)

    def covers(self, workspace: str) -> bool:
        fits = not self.patterns or any(matches(each, workspace) for each in self.patterns)
        return fits and bool(self.scopes)

    def visible(self, field: str, needed: Role, of_owner: Q) -> Q:
        """A condition for rows of workspaces on which the key has the role `needed`."""
        if not self.scopes or RANK[needed] > RANK[self.ceiling]:
            return NOTHING
        if not self.patterns:
            return of_owner
        named = NOTHING
        for pattern in self.patterns:
            named |= Q(**{f"{field}__regex": f"^(?:{expression(pattern)})$"})
        return of_owner & named


def scopes_of(key: ApiToken) -> frozenset[Scope]:
    """Those that it has, and those that they include."""
    own = {Scope(each) for each in key.scopes}
    return frozenset(own.union(*(INCLUDED.get(each, set()) for each in own)))


def acting_with(key: ApiToken, owner: User) -> User:
    """The owner, as far as the key goes. Superusers' rights that belong to no workspace need the
    scope `admin`, and no limit to workspaces."""
    scopes, patterns = scopes_of(key), tuple(key.workspaces)
    user = copy.copy(owner)
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
