"""Handing one's decision on to somebody else, for one request."""

from __future__ import annotations

from apps.accounts.grants import role_on
from apps.accounts.models import User
from apps.approvals import audit, rights
from apps.approvals.decisions import Case, refuse_closed
from apps.approvals.errors import NotAllowed
from apps.approvals.models import ApprovalRequest, Delegation, Notice, Vote
from engine.errors import Conflict, InputError, NotFound


def hand_on(case: Case, email: str) -> Conflict | None:
    """Let the user with this e-mail decide in the caller's place; the caller cannot while that
    stands.

    Returns why it is too late, where it is.
    """
    giver = rights.fresh(case.caller.user)
    right = rights.right_of(giver, case.request)
    if not right.is_own:
        raise NotAllowed("Only somebody who is asked can hand a decision on")
    refusal = refuse_closed(case)
    if refusal is not None:
        return refusal
    if Vote.objects.filter(request=case.request, user=giver).exists():
        raise Conflict("You have approved this; take your approval back before you hand it on")
    if Delegation.objects.filter(request=case.request, taker=giver).exists():
        raise Conflict("Somebody handed their decision on to you; it cannot be handed on further")
    taker = _taker(case.request, giver, email)
    Delegation.objects.create(request=case.request, giver=giver, taker=taker, at=case.state.now)
    Notice.objects.get_or_create(request=case.request, kind="delegated", number=0, user=taker)
    audit.record_of(case.caller, case.request, "delegate", "done", f"to {taker.email}")
    return None


def _taker(request: ApprovalRequest, giver: User, email: str) -> User:
    taker = rights.person(email)
    if taker is None or role_on(taker, request.workspace.name) is None:
        raise InputError(
            {"to": f"nobody with the e-mail {email.strip()[:100]} can see this workspace"}
        )
    if taker.pk == giver.pk:
        raise InputError({"to": "you cannot hand a decision on to yourself"})
    if rights.is_kept_apart(taker, request):
        raise InputError(
            {"to": f"{taker.email} started this job, and somebody else must decide about it"}
        )
    if rights.own_right(taker, request) is not None:
        raise InputError({"to": f"{taker.email} is asked already"})
    return taker


def take_back(case: Case) -> Conflict | None:
    """End one's delegation, unless the other has approved by it. Returns why it is too late, where
    it is."""
    giver = rights.fresh(case.caller.user)
    if role_on(giver, case.request.workspace.name) is None:
        raise NotFound(rights.UNSEEN)
    refusal = refuse_closed(case)
    if refusal is not None:
        return refusal
    found = (
        Delegation.objects.filter(request=case.request, giver=giver).select_related("taker").first()
    )
    if found is None:
        raise Conflict("You have not handed this decision on")
    if Vote.objects.filter(request=case.request, user=found.taker).exists():
        raise Conflict(f"{found.taker.email} has approved already in your place")
    found.delete()
    audit.record_of(case.caller, case.request, "take_back", "done", f"from {found.taker.email}")
    return None
