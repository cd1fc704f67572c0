"""Delegating one's decision on one request."""

from __future__ import annotations

from apps.accounts.models import User
from apps.approvals import rights
from apps.approvals.errors import NotAllowed
from apps.approvals.models import ApprovalRequest, Delegation, Notice, Vote
from apps.approvals.services import Case, judged, refuse_closed
from apps.approvals.transitions import Caller
from engine.errors import Conflict, InputError, NotFound


def delegate(request_id: int, caller: Caller, to: str) -> None:
    """Let the user with the e-mail `to` decide in the caller's place, who cannot decide
    meanwhile."""
    judged(request_id, caller, "delegate", lambda case: _delegate(case, to))


def take_back(request_id: int, caller: Caller) -> None:
    """Revoke the caller's delegation, unless the other person has approved."""
    judged(request_id, caller, "take_back", _take_back)


def _delegate(case: Case, email: str) -> Conflict | None:
    giver = rights.fresh(case.caller.user)
    right = rights.right_of(giver, case.request)
    if not right.is_own:
        raise NotAllowed("Only an approver of this request can delegate the decision")
    refusal = refuse_closed(case)
    if refusal is not None:
        return refusal
    if Vote.objects.filter(request=case.request, user=giver).exists():
        raise Conflict("You have approved this; withdraw your approval before you delegate")
    if Delegation.objects.filter(request=case.request, taker=giver).exists():
        raise Conflict("This decision was delegated to you; you cannot delegate it again")
    taker = _taker(case.request, giver, email)
    Delegation.objects.create(request=case.request, giver=giver, taker=taker, at=case.state.now)
    Notice.objects.get_or_create(
        request=case.request, kind=Notice.Kind.DELEGATED, number=0, user=taker
    )
    case.record("delegate", detail=f"to {taker.email}")
    return None


def _taker(request: ApprovalRequest, giver: User, email: str) -> User:
    taker = rights.person(email)
    if taker is None or not rights.sees(taker, request):
        raise InputError({"to": f"nobody with the e-mail {email.strip()[:100]} can see this task"})
    if taker.pk == giver.pk:
        raise InputError({"to": "you cannot delegate a decision to yourself"})
    if rights.is_kept_apart(taker, request):
        raise InputError({"to": f"{taker.email} started this job, so somebody else must decide"})
    if not rights.may_be_asked(taker, request):
        raise InputError({"to": f"{taker.email} may not approve this: that right is denied"})
    if rights.own_right(taker, request) is not None:
        raise InputError({"to": f"{taker.email} is already an approver"})
    return taker


def _take_back(case: Case) -> Conflict | None:
    giver = rights.fresh(case.caller.user)
    if not rights.sees(giver, case.request):
        raise NotFound(rights.UNSEEN)
    refusal = refuse_closed(case)
    if refusal is not None:
        return refusal
    given = Delegation.objects.filter(request=case.request, giver=giver)
    found = given.select_related("taker").first()
    if found is None:
        raise Conflict("You have not delegated this decision")
    if Vote.objects.filter(request=case.request, user=found.taker).exists():
        raise Conflict(f"{found.taker.email} has already approved in your place")
    found.delete()
    case.record("take_back", detail=f"from {found.taker.email}")
    return None
