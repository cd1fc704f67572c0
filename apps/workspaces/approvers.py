"""Warnings about approvers that do not exist here: nobody could decide, and nobody would say so."""

from __future__ import annotations

from collections.abc import Iterator

from django.contrib.auth.models import Group
from django.db.models.functions import Lower

from apps.accounts.models import User
from engine.plain import shorten
from engine.spec.model import Action, Problem
from engine.spec.model import Workspace as Definition
from engine.spec.problems import did_you_mean, warning

_MOST_SUGGESTED = 1000


def unknown_approvers(definition: Definition) -> list[Problem]:
    """One warning per approval and name; users may be created later, so nothing is refused."""
    approvals = {
        name: action
        for name, action in definition.actions.items()
        if action.type in ("approval", "agent")
    }
    asked = {who for action in approvals.values() for who in _asked(action)}
    if not asked:
        return []
    known = _known(asked)
    return [
        warning(action.place, "unknown-approver", _sentence(action.type, name, kind, who))
        for name, action in approvals.items()
        for kind, who in dict.fromkeys(_asked(action))
        if (kind, who.lower() if kind == "user" else who) not in known
    ]


def _asked(action: Action) -> Iterator[tuple[str, str]]:
    """(user or group, name) of everybody who may decide, now or after the escalation."""
    later = action.escalation
    for user in (*action.approvers.get("users", ()), *(later.users if later else ())):
        yield "user", str(user)
    for group in (*action.approvers.get("groups", ()), *(later.groups if later else ())):
        yield "group", str(group)


def _known(asked: set[tuple[str, str]]) -> set[tuple[str, str]]:
    emails = [name.lower() for kind, name in asked if kind == "user"]
    groups = [name for kind, name in asked if kind == "group"]
    users = User.objects.annotate(lower=Lower("email")).filter(lower__in=emails)
    return {("user", lower) for lower in users.values_list("lower", flat=True)} | {
        ("group", name)
        for name in Group.objects.filter(name__in=groups).values_list("name", flat=True)
    }


def _sentence(kind_of: str, action: str, kind: str, who: str) -> str:
    hint = ""
    if kind == "group":
        names = Group.objects.order_by("name").values_list("name", flat=True)[:_MOST_SUGGESTED]
        hint = did_you_mean(who, names)
    shown = action.removeprefix("_inline:").replace(":", "/")
    return (
        f"{kind_of.capitalize()} '{shorten(shown)}' asks the {kind} '{shorten(who)}', which does"
        f" not exist here{hint}"
    )
