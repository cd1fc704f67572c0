"""Who holds which grants. What they lead to on a workspace or task is decided in
`apps.workspaces.rights`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.db.models import Q

from apps.accounts.models import Role, User, WorkspaceGrant
from engine.rights import ALL_RIGHTS, EVERYTHING, OF_ROLES, Holder, Right, Rights, Rule

Person = User | AnonymousUser
NOTHING = Q(pk__in=())
OF_SUPERUSERS = Rule(0, EVERYTHING, ALL_RIGHTS)
_COLUMNS = (
    "pk", "pattern", "tasks", "role", "rights", "user__email", "group__name", "user_id", "group_id",
)  # fmt: skip


def signed_in(user: Person) -> User:
    """The user of a request to a view that requires signing in."""
    assert isinstance(user, User)
    return user


def grants_of(user: User) -> tuple[Rule, ...]:
    """The grants of `user` and their groups, or what an API key leaves of them; read once per user
    object."""
    if (limits := user.limits) is not None:
        owner = limits.owner
        return limits.narrowed((OF_SUPERUSERS,) if owner.is_superuser else grants_of(owner))
    known: tuple[Rule, ...] | None = getattr(user, "_stroem_grants", None)
    if known is None:
        rows = WorkspaceGrant.objects.filter(Q(user=user.pk) | Q(group__in=_groups(user)))
        known = tuple(rule for rule, _, _ in _rules(rows))
        setattr(user, "_stroem_grants", known)  # noqa: B010  (our own attribute on Django's class)
    return known


def all_grants() -> list[tuple[Rule, int | None, int | None]]:
    """Every grant with the id of its user or of its group."""
    return _rules(WorkspaceGrant.objects.all())


def _rules(rows: Any) -> list[tuple[Rule, int | None, int | None]]:
    return [
        (
            Rule(pk, pattern, rights_of(role, rights), tasks, role == Role.DENY, held_by),
            user_id,
            group_id,
        )
        for pk, pattern, tasks, role, rights, email, group, user_id, group_id in (
            rows.order_by("pk").values_list(*_COLUMNS)
        )
        for held_by in (email or f"the group {group}",)
    ]


def rights_of(role: str, chosen: Iterable[str]) -> Rights:
    """What a grant with this role gives, or takes away. Whatever it gives, it shows as well."""
    rights = frozenset(map(Right, chosen))
    if role == Role.DENY:
        return rights or ALL_RIGHTS
    return OF_ROLES.get(role) or rights | {Right.SEE}


def gives_somewhere(user: User, right: Right) -> bool:
    """Whether a grant gives this right anywhere: for menus and buttons, never to decide."""
    return user.is_superuser or any(
        right in rule.rights and not rule.denies for rule in grants_of(user)
    )


def holder(user: User) -> Holder:
    """`user` as `access:` in files knows them; reads their groups once per user object."""
    if user.limits is not None:
        return holder(user.limits.owner)
    known: Holder | None = getattr(user, "_stroem_holder", None)
    if known is None:
        names = frozenset(user.groups.values_list("name", flat=True))
        known = Holder(user.email.lower(), names, user.is_superuser)
        setattr(user, "_stroem_holder", known)  # noqa: B010  (our own attribute on Django's class)
    return known


def _groups(user: User) -> Any:
    return User.groups.through.objects.filter(user_id=user.pk).values("group_id")
