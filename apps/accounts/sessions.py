"""Whether a session still holds, beyond what Django checks: for streams, which outlive requests.
Higher apps register what else must hold."""

from __future__ import annotations

from collections.abc import Callable

from django.contrib.sessions.backends.base import SessionBase

Check = Callable[[SessionBase], bool]
_checks: list[Check] = []


def register(check: Check) -> None:
    _checks.append(check)


def holds(session: SessionBase) -> bool:
    return all(check(session) for check in _checks)
