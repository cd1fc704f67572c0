"""E-mail to approvers, from the notices of suspensions, reminders and delegations.

The conductor sends mail outside of any transaction, a few at a time. Each notice is mailed at least
once: a process that dies before it notes the sending sends it again.
"""

from __future__ import annotations

import logging
import smtplib
from collections.abc import Iterable
from datetime import datetime

from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db.models.functions import Now

from apps.accounts.models import User
from apps.approvals import rights
from apps.approvals.links import make_link
from apps.approvals.models import Notice
from apps.jobs.database.sql import fetch

log = logging.getLogger("stroem.approvals")
A_ROUND = 5  # notices
MOST_TRIES = 8
TAKE = """
UPDATE approvals_notice SET tries = tries + 1,
    try_at = clock_timestamp() + make_interval(mins => 1 << tries)
WHERE id IN (
    SELECT n.id FROM approvals_notice n JOIN approvals_approvalrequest r ON r.id = n.request_id
    WHERE n.mailed_at IS NULL AND n.try_at <= clock_timestamp() AND n.tries < %s
        AND r.status = 'open'
    ORDER BY n.try_at LIMIT %s FOR UPDATE OF n SKIP LOCKED
) RETURNING id
"""
OPENINGS = {
    Notice.Kind.SUSPENDED: "Your approval is requested",
    Notice.Kind.REMINDER: "Your approval is still needed",
    Notice.Kind.ESCALATED: "Nobody has decided yet, so your approval is requested",
    Notice.Kind.DELEGATED: "Somebody delegated a decision to you",
}


def send_mail() -> int:
    """Mail the notices that are due, if a mail server is configured. Returns how many were sent."""
    if not settings.MAIL_IS_CONFIGURED:
        return 0
    taken = [row[0] for row in fetch(TAKE, (MOST_TRIES, A_ROUND))]
    sent = 0
    for notice in (
        Notice.objects.filter(pk__in=taken)
        .select_related("request__workspace", "request__requested_by", "user")
        .order_by("pk")
    ):
        receivers = [notice.user] if notice.user else rights.people_asked(notice.request)
        try:
            _send(notice, receivers)
        except (OSError, smtplib.SMTPException) as error:
            log.warning("notice %s was not mailed and will be retried: %s", notice.pk, error)
            break
        Notice.objects.filter(pk=notice.pk).update(mailed_at=Now())
        sent += 1
    return sent


def _send(notice: Notice, receivers: Iterable[User]) -> None:
    messages = [_message(notice, user) for user in receivers if "@" in user.email]
    if messages:
        get_connection(timeout=settings.EMAIL_TIMEOUT).send_messages(messages)


def _message(notice: Notice, user: User) -> EmailMessage:
    request = notice.request
    where = f"{request.workspace.name}: {request.task_name}, step {request.step_name}"
    opening = OPENINGS[Notice.Kind(notice.kind)]
    if request.is_question:
        opening = opening.replace("approval", "answer")
    told = [request.message] if rights.may_read(user, request) else []
    told += [hidden] if (hidden := rights.hidden_from(user, request)) else []
    lines = [
        f"{opening}: {where}.",
        *(line for text in told for line in ("", text)),
        "",
        *_facts(request.deadline_at, request.min_approvals),
        f"Decide here: {make_link(request, user)}",
        "The link works once, only for you, after you sign in.",
    ]
    subject = " ".join(f"[approval] {where}".split())[:200]
    return EmailMessage(subject, "\n".join(lines), to=[user.email])


def _facts(deadline_at: datetime | None, needed: int) -> list[str]:
    facts = [f"It times out at {deadline_at:%Y-%m-%d %H:%M} UTC."] if deadline_at else []
    if needed > 1:
        facts.append(f"{needed} approvals are needed.")
    return facts
