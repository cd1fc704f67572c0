"""Handing one's decision on to somebody else, for one request."""

from __future__ import annotations

from apps.accounts.grants import role_on
from apps.accounts.models import User
from apps.approvals import rights
from apps.approvals.errors import NotAllowed
from apps.approvals.models import ApprovalRequest, Delegation, Notice, Vote
from apps.approvals.services import Case, judged, refuse_closed
from apps.approvals.transitions import Caller
from engine.errors import Conflict, InputError, NotFound


def delegate(request_id: int, caller: Caller, to: str) -> None:
    """Let the user with the e-mail `to` decide in the caller's place; the caller cannot while that
    stands."""
    judged(request_id, caller, "delegate", lambda case: _delegate(case, to))


def take_back(request_id: int, caller: Caller) -> None:
    """End one's delegation, unless the other has approved by it."""
    judged(request_id, caller, "take_back", _take_back)


def _delegate(case: Case, email: str) -> Conflict | None:
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
    Notice.objects.get_or_create(
        request=case.request, kind=Notice.Kind.DELEGATED, number=0, user=taker
    )
    case.record("delegate", detail=f"to {taker.email}")
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


def _take_back(case: Case) -> Conflict | None:
    giver = rights.fresh(case.caller.user)
    if role_on(giver, case.request.workspace.name) is None:
        raise NotFound(rights.UNSEEN)
    refusal = refuse_closed(case)
    if refusal is not None:
        return refusal
    given = Delegation.objects.filter(request=case.request, giver=giver)
    found = given.select_related("taker").first()
    if found is None:
        raise Conflict("You have not handed this decision on")
    if Vote.objects.filter(request=case.request, user=found.taker).exists():
        raise Conflict(f"{found.taker.email} has approved already in your place")
    found.delete()
    case.record("take_back", detail=f"from {found.taker.email}")
    return None
