"""Noting an act, in the transaction that is open. The edges say once where acts come from: the
request that is being answered, or a command."""

from __future__ import annotations

import getpass
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.http import HttpRequest

from apps.adminkit import policy
from apps.audit.models import Entry

CHANGED = {"changed": True}  # all that is said of a secret
LONGEST_VALUE = 500
API = "/api/"
Changes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Origin:
    """`via`: page, api, mcp, command or server. `key`: the first letters of the API key."""

    via: str
    address: str = ""
    actor: str = ""
    key: str = ""


SERVER = Origin("server")
_origin: ContextVar[Origin | None] = ContextVar("origin", default=None)


def current() -> Origin:
    """Of what is done now. Who a request comes from is known once a view has authenticated it."""
    request = policy.current_request.get()
    return _origin.get() or SERVER if request is None else _of_request(request)


def _of_request(request: HttpRequest) -> Origin:
    user: Any = getattr(request, "user", None)
    is_known = user is not None and user.is_authenticated
    key = getattr(user, "key", None)
    return Origin(
        "api" if request.path.startswith(API) else "page",
        str(request.META.get("REMOTE_ADDR", "")),
        user.email if is_known else "",
        key.prefix if key is not None else "",
    )


def of_command() -> Origin:
    """Of a command on this host: who called it, as the system knows them."""
    try:
        login = getpass.getuser()
    except (KeyError, OSError):  # in containers, a user id may have no name
        login = "unknown"
    return Origin("command", f"local user {login}", "operator")


def begin(origin: Origin) -> None:
    """For the rest of this context: that of a command, or of a call at /mcp."""
    _origin.set(origin)


@contextmanager
def during(origin: Origin) -> Iterator[None]:
    before = _origin.set(origin)
    try:
        yield
    finally:
        _origin.reset(before)


def note(
    act: str,
    thing: object = "",
    *,
    by: str = "",
    workspace: str = "",
    changes: Changes | None = None,
    detail: str = "",
) -> None:
    """Write one entry. `act`: kind of object and verb; `by`: who, where the request does not say
    it. Called in the transaction of the act, or before an act that is none."""
    origin = current()
    Entry.objects.create(
        actor=_plain(by or origin.actor, 254),
        act=act,
        kind=act.partition(".")[0],
        object=_plain(thing, 400),
        workspace=_plain(workspace, 100),
        via=origin.via,
        address=_plain(origin.address, 100),
        key=origin.key,
        changes={name: _shown(change) for name, change in (changes or {}).items()},
        detail=_plain(detail, 500),
    )


def changes_of(
    before: Mapping[str, Any], after: Mapping[str, Any], *, secret: Iterable[str] = ()
) -> dict[str, Mapping[str, Any]]:
    """What differs, by name. Of those named in `secret` only that it does."""
    hidden = frozenset(secret)
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return {
        name: CHANGED if name in hidden else {"before": before.get(name), "after": after.get(name)}
        for name in names
    }


def added(**values: Any) -> dict[str, Mapping[str, Any]]:
    """The changes of something new."""
    return changes_of({}, {name: value for name, value in values.items() if value not in ("", [])})


def _shown(change: Mapping[str, Any]) -> dict[str, Any]:
    return {side: _value(value) for side, value in change.items()}


def _value(value: Any) -> Any:
    """As JSON keeps it, cut where it is long."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, list | tuple | set | frozenset):
        return [_value(one) for one in list(value)[:100]]
    return _plain(value, LONGEST_VALUE)


def _plain(value: object, most: int) -> str:
    """Text that the database can hold: without NUL and lone surrogates, and not too long."""
    text = str(value).replace("\x00", "").encode("utf-8", "replace").decode()
    return text if len(text) <= most else text[: most - 1] + "…"
