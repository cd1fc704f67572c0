"""What the audit log hears of signing in and out, in whichever way it is done."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out

from apps.accounts import sessions
from apps.accounts.throttles import count, throttle_key
from apps.audit.services import note

THROTTLED_EVERY_S = 60
BY = "signed_in_by"  # attribute of a request: "password", "passkey", the name of a provider


def listen() -> None:
    """Sessions of browsers begin and end in Django, after every step that a sign-in takes."""
    user_logged_in.connect(_begun, dispatch_uid="audit")
    user_logged_out.connect(_ended, dispatch_uid="audit")


def _begun(sender: Any, user: Any, request: Any, **more: Any) -> None:
    sessions.note_begun(request.session)
    note_begun(user, getattr(request, BY, ""))


def _ended(sender: Any, user: Any, **more: Any) -> None:
    if user is not None:
        note_ended(user.email)


def note_begun(user: Any, how: str = "") -> None:
    note("session.begin", user.email, by=user.email, detail=how)


def note_ended(email: str, because: str = "") -> None:
    note("session.end", email, by=email, detail=because)


def note_refused(who: str, because: str = "") -> None:
    """`who`: the account that somebody tried to sign in to."""
    note("session.refused", who, detail=because)


def note_throttled(who: str, *subject: str) -> None:
    """At most once a minute for the same account and address: who guesses must not fill the log."""
    if count(throttle_key("audit", " ".join(subject)), limit=1, window_s=THROTTLED_EVERY_S) is None:
        note("session.throttled", who, detail="too many failed tries; told once a minute")
