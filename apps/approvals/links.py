"""The page of a request, and single-use links to it for e-mail and chat. Links sign nobody in and
decide nothing.

A link is a random text with the signature of the server. The database stores only its digest and
whether it was used.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TypeVar

from django.conf import settings
from django.core.signing import BadSignature, Signer
from django.db import transaction
from django.db.models.functions import Now

from apps.accounts.models import User
from apps.approvals import rights
from apps.approvals.errors import LinkSpent, NotAllowed
from apps.approvals.models import ApprovalRequest, Link, Outcome
from apps.approvals.services import outcome_of
from apps.approvals.transitions import Caller, record
from engine.errors import Conflict, InputError, NotFound
from engine.rights import Right as OnTask

PAGE = "/admin/approvals/approvalrequest/{id}/change/"
LINK = "/approvals/link/{token}"
UNKNOWN = "Unknown link"
_LONGEST = 200
Refusal = TypeVar("Refusal", LinkSpent, NotAllowed)


def page_url(request_id: int) -> str:
    """The address of the page where people decide this request."""
    return f"{settings.BASE_URL}{PAGE.format(id=request_id)}"


def make_link(request: ApprovalRequest, user: User) -> str:
    """The address that leads `user` to the page of `request`, once."""
    token = secrets.token_urlsafe(24)
    Link.objects.create(request=request, user=user, digest=_digest(token))
    return f"{settings.BASE_URL}{LINK.format(token=_signer().sign(token))}"


def link_for(request: ApprovalRequest, caller: Caller, email: str = "") -> str:
    """A link for the user with this e-mail, else for the caller. Operators (a chat bot, say) can
    create links for others.

    Raises NotFound, NotAllowed, Conflict if the request is closed, InputError if no such user could
    use the link.
    """
    try:
        receiver = _receiver(request, caller.user, email)
    except (NotFound, NotAllowed, Conflict, InputError) as refusal:
        record(request, "link", outcome_of(refusal), str(refusal), by=caller)
        raise
    record(request, "link", detail=f"for {receiver.email}", by=caller)
    return make_link(request, receiver)


def _receiver(request: ApprovalRequest, maker: User, email: str) -> User:
    user = rights.fresh(maker)
    held = rights.rights_on(user, request)
    if OnTask.SEE not in held:
        raise NotFound(rights.UNSEEN)
    if not request.is_open:
        raise Conflict("The request is closed")
    if not email or email.strip().lower() == user.email.lower():
        return user
    if OnTask.APPROVE not in held:
        raise NotAllowed("Only those with the right 'approve' can create links for others")
    found = rights.person(email)
    if found is None or not rights.sees(found, request):
        raise InputError(
            {"user": f"nobody with the e-mail {email.strip()[:100]} can see this task"}
        )
    return found


@transaction.atomic
def open_link(text: str, user: User, address: str) -> ApprovalRequest | LinkSpent | NotAllowed:
    """The request behind this link of `user`, which is spent from now on. Refusals are returned, so
    that their record is kept. Raises NotFound for anything that is not a link."""
    link = _find(text)
    caller = Caller(user, "link", address)
    request = link.request
    if link.user_id != user.pk or not rights.sees(user, request):
        return _refused(caller, request, NotAllowed("This link belongs to somebody else"))
    if not Link.objects.filter(pk=link.pk, used_at=None).update(used_at=Now()):
        return _refused(caller, request, LinkSpent("This link has been used already"))
    if not request.is_open:
        return _refused(caller, request, LinkSpent("This request is closed"))
    record(request, "open", by=caller)
    return request


def _find(text: str) -> Link:
    try:
        token = _signer().unsign(text[:_LONGEST])
    except BadSignature:
        raise NotFound(UNKNOWN) from None
    found = Link.objects.select_related("request__workspace").filter(digest=_digest(token)).first()
    if found is None:
        raise NotFound(UNKNOWN)
    return found


def _refused(caller: Caller, request: ApprovalRequest, error: Refusal) -> Refusal:
    record(request, "open", Outcome.REFUSED, str(error), by=caller)
    return error


def _signer() -> Signer:
    return Signer(salt="apps.approvals.links")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
