"""The one place where people come in by a browser, and what their session knows about it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import cast

from django.conf import settings
from django.contrib.auth import login
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare
from django.utils.http import url_has_allowed_host_and_scheme

from apps.accounts import sessions
from apps.accounts.models import User
from apps.accounts.sign_ins import BY
from apps.signin.models import SignOn

log = logging.getLogger("stroem.accounts")
HOME = "/admin/"
SECOND_WITHIN_S = 10 * 60
HOW, SIGN_ON, SECOND, ENDED = "signin_how", "signin_sign_on", "signin_second", "signin_ended"


def enter(
    request: HttpRequest,
    user: User,
    how: str,
    sign_on: SignOn | None = None,
    proven_at: int | None = None,
) -> None:
    """Begin the session of somebody who has proven who they are, a while ago if a provider says so.
    `how` is "password", "code", "recovery code", "passkey" or the name of a provider."""
    request.session.pop(SECOND, None)
    request.session.pop(ENDED, None)
    request.session.set_expiry(None)
    setattr(request, BY, how)
    login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
    if proven_at is not None:
        sessions.note_begun(request.session, proven_at)
    request.session[HOW] = how
    request.session[SIGN_ON] = None if sign_on is None else sign_on.pk
    address = request.META.get("REMOTE_ADDR", "")
    log.info("somebody signed in", extra={"fields": {"user": user.pk, "how": how, "from": address}})


def begin(request: HttpRequest) -> None:
    """Somebody begins to sign in: what their session holds until then is not kept for long."""
    if not request.user.is_authenticated:
        request.session.set_expiry(SECOND_WITHIN_S)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Somebody whose password was right, and who has to show a second factor."""

    user: User
    next: str


def wait_for_second(request: HttpRequest, user: User, next_url: str) -> None:
    begin(request)
    request.session.cycle_key()
    request.session[SECOND] = {
        "user": user.pk, "standing": user.standing, "at": int(time.time()), "next": next_url,
    }  # fmt: skip


def waiting(request: HttpRequest) -> Waiting | None:
    """Who waits in this session, unless it takes too long or the password has changed."""
    told = request.session.get(SECOND)
    if not isinstance(told, dict) or time.time() - told["at"] > SECOND_WITHIN_S:
        return None
    user = User.objects.filter(pk=told["user"], is_active=True).first()
    if user is None or not constant_time_compare(user.standing, told["standing"]):
        return None
    return Waiting(user, told["next"])


def next_of(request: HttpRequest) -> str:
    """Where to go after signing in: an address of this server, else the dashboard."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    is_ours = url_has_allowed_host_and_scheme(wanted, None) and not wanted.startswith("//")
    return wanted if is_ours and wanted.startswith("/") else HOME


def signed_in(request: HttpRequest) -> User:
    """Of a view that only people who are signed in reach."""
    return cast(User, request.user)
