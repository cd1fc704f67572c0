"""Roles on workspaces, granted by name pattern. The widest role wins; nothing is allowed by
default."""

from __future__ import annotations

import re
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db.models import Q

from apps.accounts.models import Role, User, WorkspaceGrant

RANK = {Role.VIEWER: 1, Role.OPERATOR: 2, Role.ADMIN: 3}
Person = User | AnonymousUser
NOTHING = Q(pk__in=())


def signed_in(user: Person) -> User:
    """The user of a request to a view that requires signing in."""
    assert isinstance(user, User)
    return user


def grants_of(user: User) -> tuple[tuple[str, Role], ...]:
    """The (pattern, role) pairs of `user` and their groups; read once per user object."""
    if user.limits is not None:
        return ()  # they are the owner's: who asks goes through `role_on` and `visible`
    known: tuple[tuple[str, Role], ...] | None = getattr(user, "_stroem_grants", None)
    if known is None:
        rows = WorkspaceGrant.objects.filter(Q(user=user.pk) | Q(group__in=_groups(user)))
        known = tuple(
            (pattern, Role(role)) for pattern, role in rows.values_list("pattern", "role")
        )
        setattr(user, "_stroem_grants", known)  # noqa: B010  (our own attribute on Django's class)
    return known


def _groups(user: User) -> Any:
    return User.groups.through.objects.filter(user_id=user.pk).values("group_id")


def role_on(user: Person, workspace: str) -> Role | None:
    """The widest role of `user` on this workspace; None if the user must not see it."""
    if not user.is_authenticated or not user.is_active:
        return None
    if user.limits is not None:
        return user.limits.role(workspace, role_on(user.limits.owner, workspace))
    if user.is_superuser:
        return Role.ADMIN
    roles = [role for pattern, role in grants_of(user) if matches(pattern, workspace)]
    return max(roles, key=RANK.__getitem__, default=None)


def matches(pattern: str, workspace: str) -> bool:
    return re.fullmatch(expression(pattern), workspace) is not None


def holders_of(workspace: str) -> Q:
    """A condition for users who have a role on this workspace."""
    rows = WorkspaceGrant.objects.values_list("pattern", "user", "group")
    fitting = [row for row in rows if matches(row[0], workspace)]
    return (
        Q(is_superuser=True)
        | Q(pk__in={user for _, user, _ in fitting if user is not None})
        | Q(groups__in={group for _, _, group in fitting if group is not None})
    )


def allows(role: Role | None, needed: Role) -> bool:
    return role is not None and RANK[role] >= RANK[needed]


def visible(user: Person, field: str = "name", needed: Role = Role.VIEWER) -> Q:
    """A condition for rows whose `field` names a workspace on which `user` has the role `needed` or
    a wider one."""
    if not user.is_authenticated or not user.is_active:
        return NOTHING
    if (limits := user.limits) is not None:
        return limits.visible(field, needed, visible(limits.owner, field, needed))
    if user.is_superuser:
        return Q()
    patterns = {pattern for pattern, role in grants_of(user) if RANK[role] >= RANK[needed]}
    if "*" in patterns:
        return Q()
    condition = NOTHING
    for pattern in sorted(patterns):
        condition |= Q(**{f"{field}__regex": f"^(?:{expression(pattern)})$"})
    return condition


def expression(pattern: str) -> str:
    """A regular expression that Python and PostgreSQL read alike; `*` matches anything."""
    return "".join(".*" if letter == "*" else _literal(letter) for letter in pattern)


def _literal(letter: str) -> str:
    return letter if letter.isalnum() or letter in "_-" else f"\\{letter}"
