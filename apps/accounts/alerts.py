"""Mail to somebody whose sign-in or keys have changed: who did not do that learns of it.

Written in the transaction of the change, and sent by the conductor at least once: a process that
dies before it forgets a mail sends it again.
"""

from __future__ import annotations

import logging
import smtplib
from datetime import datetime, timedelta

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from apps.accounts.models import Alert, User
from apps.audit import services as audit

log = logging.getLogger("stroem.accounts")
A_ROUND = 5  # mails
MOST_TRIES = 8
VIAS = {"page": "a page", "api": "the API", "mcp": "/mcp", "command": "a command on the server"}
IF_NOT = (
    "If not, somebody else can use your account. Set a new password at {base}/admin/security/: that"
    " ends all other sessions, tokens and API keys. Remove there what you do not know, and tell an"
    " administrator."
)
IF_NOT_AND_SSO = (
    "If not, somebody else can use your account: tell an administrator, change your password at the"
    " provider where you sign in, and end what you do not know at {base}/admin/keys/."
)


def tell(user: User, subject: str, what: str, *, by: str = "", to: str = "") -> None:
    """Mail to this person, or to the address that they had. `what`: a sentence without secrets.
    Nothing where no mail is configured, and to service accounts."""
    if not settings.MAIL_IS_CONFIGURED or user.is_service:
        return
    body = _body(user, what, audit.current(), by)
    one_line = " ".join(subject.split())[:200]
    Alert.objects.create(email=to or user.email, subject=one_line, body=body)


def _body(user: User, what: str, origin: audit.Origin, by: str) -> str:
    who = by or origin.actor
    where = [VIAS.get(origin.via, "the server"), origin.address]
    has_password = user.has_usable_password()
    lines = [
        what,
        "",
        f"Account: {user.email} at {settings.BASE_URL}",
        f"When: {_moment(timezone.now())}",
        *([f"By: {'you' if who == user.email else who}"] if who else []),
        f"From: {', '.join(filter(None, where))}",
        "",
        "If you know of this, there is nothing to do.",
        (IF_NOT if has_password else IF_NOT_AND_SSO).format(base=settings.BASE_URL),
    ]
    return "\n".join(lines)


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def quoted(name: object) -> str:
    """A name that a program or person chose, on one line, that cannot pass for a line of ours."""
    return f"“{' '.join(str(name).split())[:150]}”"


def until(at: datetime | None) -> str:
    return f" It expires at {_moment(at)}." if at else " It does not expire."


def send() -> int:
    """Send what is due, a few at a time; returns how many. One that cannot be sent ends the round,
    and waits while the others have their turn."""
    if not settings.MAIL_IS_CONFIGURED:
        return 0
    for sent in range(A_ROUND):
        alert = _taken()
        if alert is None:
            return sent
        try:
            EmailMessage(f"[Stroem] {alert.subject}", alert.body, to=[alert.email]).send()
        except (OSError, smtplib.SMTPException) as error:
            _put_off(alert, error)
            return sent
        alert.delete()
    return A_ROUND


@transaction.atomic
def _taken() -> Alert | None:
    due = Alert.objects.select_for_update(skip_locked=True).filter(try_at__lte=Now())
    alert = due.order_by("try_at", "id").first()
    if alert is not None:
        alert.tries += 1
        later = Now() + timedelta(minutes=2**alert.tries)
        Alert.objects.filter(pk=alert.pk).update(tries=alert.tries, try_at=later)
    return alert


def _put_off(alert: Alert, error: Exception) -> None:
    told = (alert.email, alert.subject, alert.tries, error)
    if alert.tries < MOST_TRIES:
        log.warning("the mail to %s, “%s”, was not sent (try %d): %s", *told)
        return
    log.error("the mail to %s, “%s”, is given up after %d tries: %s", *told)
    alert.delete()
