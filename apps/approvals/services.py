"""What may be done to approval requests, by the API, the admin and the commands alike.

Each function is one transaction under the lock of the job, and records what was tried, also when it
refuses: NotFound (404) for who must not see the request, NotAllowed (403) for who sees it only,
Conflict (409) for who is late, InputError (400) for a form that does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from apps.accounts.models import User
from apps.approvals import delegations, rights
from apps.approvals.audit import Caller, record_of
from apps.approvals.decisions import Decided, Verdict, judged
from apps.approvals.decisions import decide as _decide
from apps.approvals.decisions import withdraw as _withdraw
from apps.approvals.errors import NotAllowed
from apps.approvals.models import ApprovalRequest
from apps.approvals.rights import Right
from apps.jobs.models import Step
from engine.errors import Conflict, NotFound


def decide(
    request_id: int,
    caller: Caller,
    *,
    approved: bool,
    given: Mapping[str, Any] | None = None,
    reason: str = "",
    shown: str | None = None,
) -> Decided:
    """Approve (with the form) or reject (with a reason). `shown`: the request's `digest` that the
    person saw.

    The answer's status is approved, rejected, or suspended while more approvals are needed.
    """
    verdict = Verdict(approved, given, reason, shown)
    found: Decided = judged(request_id, caller, verdict.what, lambda case: _decide(case, verdict))
    return found


def withdraw(request_id: int, caller: Caller) -> Decided:
    """Take back one's own approval while the request is open."""
    found: Decided = judged(request_id, caller, "withdraw", _withdraw)
    return found


def delegate(request_id: int, caller: Caller, to: str) -> None:
    """Let the user with the e-mail `to` decide in one's place."""
    judged(request_id, caller, "delegate", lambda case: delegations.hand_on(case, to))


def take_back(request_id: int, caller: Caller) -> None:
    """End one's delegation."""
    judged(request_id, caller, "take_back", delegations.take_back)


def request_of(job_id: UUID, step_name: str) -> ApprovalRequest:
    """The newest request of a step. Raises NotFound, and Conflict for a step that asks nobody
    (now)."""
    step = (
        Step.objects.filter(job_id=job_id, name=step_name).first()
        if "\x00" not in step_name
        else None
    )
    if step is None:
        raise NotFound("Step not found")
    if step.kind != "approval":
        raise Conflict(f"Step '{step.name}' is not an approval or agent step (type: {step.kind})")
    found = (
        ApprovalRequest.objects.filter(step_id=step.pk, fence=step.fence)
        .select_related("workspace")
        .first()
    )
    if found is None or step.status in ("pending", "ready", "running", "skipped"):
        raise Conflict(f"Step '{step.name}' is not in suspended state (current: {step.status})")
    return found


def record_unseen(job_id: UUID, step_name: str, caller: Caller, what: str) -> None:
    """Record the try of somebody who was told that there is no such job, because they must not see
    it."""
    named = ApprovalRequest.objects.filter(job_id=job_id, step_name=step_name.replace("\x00", ""))
    found = named.select_related("workspace").order_by("-id").first()
    if found is not None:
        record_of(caller, found, what, "refused", rights.UNSEEN)


def right_to_decide(user: User, request: ApprovalRequest) -> Right | None:
    """By which right `user` could decide; None when not at all. For pages: what counts is asked
    again by `decide`."""
    try:
        return rights.right_of(user, request)
    except (NotFound, NotAllowed):
        return None


def why_not(user: User, request: ApprovalRequest) -> str:
    """The sentence that tells `user` why they cannot decide; empty when they can."""
    try:
        rights.right_of(user, request)
    except (NotFound, NotAllowed) as error:
        return str(error)
    return ""


__all__ = [
    "Caller",
    "Decided",
    "decide",
    "delegate",
    "record_unseen",
    "request_of",
    "right_to_decide",
    "take_back",
    "why_not",
    "withdraw",
]
