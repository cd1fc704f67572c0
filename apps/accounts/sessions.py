"""Sessions of browsers, beyond what Django checks: whether one still holds, for streams, which
outlive requests; and whether it began lately."""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse

AT = "signin_at"
FRESH_S = 15 * 60
Check = Callable[[SessionBase], bool]
_checks: list[Check] = []


def register(check: Check) -> None:
    """Higher apps say what else must hold."""
    _checks.append(check)


def holds(session: SessionBase) -> bool:
    return all(check(session) for check in _checks)


def note_begun(session: SessionBase, at: int | None = None) -> None:
    """Somebody proved who they are: now, or at a time that is not to come."""
    now = int(time.time())
    session[AT] = now if at is None else min(at, now)


def is_fresh(request: HttpRequest) -> bool:
    """Whether this session began so lately that it may change how its person signs in, or give a
    program a key: who only finds it open must not be able to keep the account."""
    began = request.session.get(AT)
    return isinstance(began, int) and 0 <= time.time() - began < FRESH_S


def sign_in_again(request: HttpRequest, purpose: str, back: str) -> HttpResponse:
    """To the page of signing in, and from there to the address `back`. `purpose`: "to ..."."""
    messages.info(request, f"Sign in again {purpose}.")
    return redirect(f"{reverse('admin:login')}?{urlencode({'again': 1, 'next': back})}")
