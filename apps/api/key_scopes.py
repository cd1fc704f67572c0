"""Which scope of an API key opens which route. This is asked where a key is recognised, so no view
can forget it; what the key's owner may do is decided as for everybody else.

Reading needs `jobs:read`, anything else `admin`, unless it is listed here.
"""

from __future__ import annotations

from typing import Any

from rest_framework.exceptions import PermissionDenied

from apps.accounts import key_scopes
from apps.accounts.models import Scope, User

SAFE = ("GET", "HEAD", "OPTIONS")
_WORKSPACE = "workspaces/<str:workspace>"
_TASK = f"{_WORKSPACE}/tasks/<str:task>"
_TRIGGER = f"{_WORKSPACE}/triggers/<str:trigger>"
_STEP = "jobs/<str:job>/steps/<str:step>"
RUNNING = frozenset(
    {
        f"{_TASK}/execute",
        f"{_TASK}/plan",
        f"{_TASK}/state",
        f"{_TASK}/state/versions/<str:version>/restore",
        f"{_WORKSPACE}/connections/<str:name>/check",
        f"{_TRIGGER}/pause",
        f"{_TRIGGER}/resume",
        f"{_TRIGGER}/fire",
        f"{_TRIGGER}/dead-letters/<str:letter>/send-again",
        f"{_TRIGGER}/dead-letters/<str:letter>/discard",
        "jobs/<str:job>/cancel",
        "jobs/<str:job>/restart",
    }
)
DECIDING = frozenset(f"{_STEP}/{each}" for each in ("approve", "withdraw", "delegate", "link"))
READ_TO_DECIDE = frozenset({"approvals", "auth/me", f"{_STEP}/approval"})


def needed(method: str, route: str) -> tuple[Scope, ...]:
    """One of these opens it."""
    name = route.removeprefix("api/").removeprefix("v1/")
    if method in SAFE:
        return (Scope.READ, Scope.DECIDE) if name in READ_TO_DECIDE else (Scope.READ,)
    if name in DECIDING:
        return (Scope.DECIDE,)
    return (Scope.RUN,) if method == "POST" and name in RUNNING else (Scope.ADMIN,)


def check(user: User, method: str, match: Any) -> None:
    """Raises PermissionDenied if the key of `user` does not open this route."""
    route = str(match.route) if match is not None else ""
    refusal = key_scopes.lacks(user, needed(method, route))
    if refusal is not None:
        raise PermissionDenied(refusal)
