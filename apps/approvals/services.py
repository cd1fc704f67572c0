"""Deciding a request, from the API, the admin or a command.

Each function is one transaction under the lock of the job and records the attempt, also when it
refuses and rolls back: NotFound (404) if the caller must not see the request, NotAllowed (403) if
they may only see it, Conflict (409) if they are late, InputError (400) for an invalid form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, TypeVar
from uuid import UUID

from django.db import transaction

from apps.approvals import answers, rights, transitions
from apps.approvals.errors import NotAllowed
from apps.approvals.models import ApprovalRequest, Outcome, Vote
from apps.approvals.rights import Right
from apps.approvals.transitions import Caller, State, record
from apps.jobs import bells, ports
from apps.jobs.database.sql import retried
from apps.jobs.flow import blueprints, contexts
from apps.jobs.flow.advance import Advance, advancing
from apps.jobs.flow.contexts import redact
from apps.jobs.models import Step
from apps.jobs.ports import Ruling
from apps.jobs.transitions.moves import Result, say
from engine.errors import AuthorError, Conflict, NotFound, PlatformError, StroemError
from engine.lifecycle import RequestEventKind, RequestStatus, StepEventKind, StepStatus

OWN_KIND = "approval"  # of steps that end with a decision
ASKING_KINDS = (OWN_KIND, "agent")
REJECTED = "Approval rejected"
LONGEST_REASON = 4096  # bytes
NOT_ASKED_YET = (StepStatus.PENDING, StepStatus.READY, StepStatus.RUNNING, StepStatus.SKIPPED)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Decided:
    """The resulting status: approved, rejected, or suspended while more approvals are needed."""

    status: RequestStatus | StepStatus
    approvals: int = 0
    needed: int = 1


@dataclass(frozen=True, slots=True)
class Case:
    """A request under the lock of its job, and its caller."""

    request: ApprovalRequest
    state: State
    advance: Advance
    caller: Caller

    @property
    def step_name(self) -> str:
        """The name in the flow, for the advance; an instance has the name of its loop."""
        return self.state.base if self.request.step_name == self.state.base else ""

    def record(self, what: str, outcome: Outcome = Outcome.DONE, detail: str = "") -> None:
        record(self.request, what, outcome, detail, by=self.caller)


def decide(
    request_id: int,
    caller: Caller,
    *,
    approved: bool,
    given: Mapping[str, Any] | None = None,
    reason: str = "",
    shown: str | None = None,
) -> Decided:
    """Approve (with the form) or reject (with a reason). `shown` is the `digest` of the request
    that the caller saw; None if unknown.

    The resulting status is approved, rejected, or suspended while more approvals are needed.
    """
    return judged(
        request_id,
        caller,
        "approve" if approved else "reject",
        lambda case: _decide(case, approved, given or {}, reason, shown),
    )


def withdraw(request_id: int, caller: Caller) -> Decided:
    """Withdraw the caller's approval while more approvals are needed."""
    return judged(request_id, caller, "withdraw", _withdraw)


def request_of(job_id: UUID, step_name: str) -> ApprovalRequest:
    """The newest request of a step. Raises NotFound, or Conflict if the step has no request now."""
    named = Step.objects.filter(job_id=job_id, name=step_name)
    step = named.first() if "\x00" not in step_name else None
    if step is None:
        raise NotFound("Step not found")
    if step.kind not in ASKING_KINDS:
        raise Conflict(f"Step '{step.name}' is not an approval or agent step (type: {step.kind})")
    requests = ApprovalRequest.objects.filter(step_id=step.pk, fence=step.fence)
    found = requests.select_related("workspace").first()
    if found is None or step.status in NOT_ASKED_YET:
        raise Conflict(f"Step '{step.name}' is not in suspended state (current: {step.status})")
    return found


def record_unseen(job_id: UUID, step_name: str, caller: Caller, what: str) -> None:
    """Record the attempt of a caller who must not see the job and was told that it does not
    exist."""
    named = ApprovalRequest.objects.filter(job_id=job_id, step_name=step_name.replace("\x00", ""))
    found = named.select_related("workspace").order_by("-id").first()
    if found is not None:
        record(found, what, Outcome.REFUSED, rights.UNSEEN, by=caller)


# Under the lock of the job


def judged(request_id: int, caller: Caller, what: str, judge: Callable[[Case], T | Conflict]) -> T:
    """The result of `judge` under the lock of the job. Raises its refusal after recording it."""
    answer: T | StroemError = _judged(request_id, caller, what, judge)
    if isinstance(answer, StroemError):
        raise answer
    return answer


@retried
def _judged(
    request_id: int, caller: Caller, what: str, judge: Callable[[Case], T | Conflict]
) -> T | StroemError:
    case = _opened(request_id, caller)
    answer: T | StroemError
    try:
        with transaction.atomic():
            answer = judge(case)
    except (NotFound, NotAllowed, Conflict, AuthorError) as error:
        answer = error
    if isinstance(answer, StroemError):
        case.record(what, outcome_of(answer), str(answer))
    bells.ring_after_commit(case.advance.bells)
    return answer


def _opened(request_id: int, caller: Caller) -> Case:
    """The request, its job locked until the transaction ends. Raises NotFound."""
    job_id = ApprovalRequest.objects.filter(pk=request_id).values_list("job_id", flat=True).first()
    advance = advancing(job_id, blueprints.load) if job_id is not None else None
    if advance is None:
        raise NotFound(rights.UNSEEN)
    # Read only after the lock was acquired.
    request = ApprovalRequest.objects.select_related("workspace").get(pk=request_id)
    state = transitions.state_of(request_id)
    if state is None:
        raise NotFound(rights.UNSEEN)
    return Case(request, state, advance, caller)


def outcome_of(refusal: StroemError) -> Outcome:
    """The outcome that the record stores for a refusal."""
    match refusal:
        case Conflict():
            return Outcome.LATE
        case NotFound() | NotAllowed():
            return Outcome.REFUSED
    return Outcome.INVALID


def refuse_closed(case: Case) -> Conflict | None:
    """Why the request can no longer be decided; None while it is open. Times it out if due."""
    current = case.state.step_status
    if case.state.is_open:
        if not case.state.is_late:
            return None
        time_out(case.advance, case.request, case.step_name)
        case.request.refresh_from_db()
        current = StepStatus.FAILED
    elif not case.state.is_of_this_suspension:
        return Conflict(
            f"Step '{case.request.step_name}' was started again since; see its new request"
        )
    return Conflict(_closed_in_words(case.request, current))


def _closed_in_words(request: ApprovalRequest, current: str) -> str:
    """Who decided and when."""
    text = f"Step '{request.step_name}' is not in suspended state (current: {current})"
    if request.closed_at is None:
        return text
    by = f" by {request.closed_by}" if request.closed_by else ""
    return f"{text}: {request.get_status_display().lower()}{by} at {_when(request.closed_at)}"


def time_out(advance: Advance, request: ApprovalRequest, base: str) -> None:
    """Fail the step of an open request past its deadline. Called with the job locked."""
    transitions.close(request.pk, RequestEventKind.TIMED_OUT)
    told = f"Approval step timed out after {request.timeout_text}"
    record(request, "time_out", detail=told)
    late = Ruling(request.step_id, request.fence, approved=False, reason=told)
    kind = _kind_of(request, advance)
    if kind != OWN_KIND and ports.decided(kind, advance, late):
        return
    result = Result(error=told)
    advance.settle([request.step_id], StepEventKind.FAILED, result, fence=request.fence, base=base)
    advance.run()


def _kind_of(request: ApprovalRequest, advance: Advance) -> str:
    """The type of the step that asks."""
    return advance.plan.nodes[request.step_name.partition("[")[0]].action.type


# Deciding


def _decide(
    case: Case, approved: bool, given: Mapping[str, Any], reason: str, shown: str | None
) -> Decided | Conflict:
    """Approve or reject, if the caller may and the request is open."""
    user = rights.fresh(case.caller.user)
    right = rights.right_of(user, case.request)
    refusal = refuse_closed(case)
    if refusal is not None:
        return refusal
    if shown is not None and shown != case.request.digest:
        raise Conflict("The request has changed since you saw it; reload the page")
    if not approved:
        return _reject(case, reason, right)
    before = Vote.objects.filter(request=case.request, user=user).first()
    if before is not None:
        raise Conflict(f"You already approved this at {_when(before.at)}; others must approve")
    return _approve(case, given, right)


def _approve(case: Case, given: Mapping[str, Any], right: Right) -> Decided:
    votes = _standing(case)
    node = case.advance.plan.nodes[case.state.base]
    fields = node.action.input if node.action.type == OWN_KIND else answers.fields_of(case.request)
    job = case.advance.job
    form = answers.checked(job, node, fields, given, votes) if fields or given else None
    Vote.objects.create(
        request=case.request,
        user_id=case.caller.user.pk,
        approved=True,
        input=form.shown if form else None,
        input_sealed=form.sealed if form else None,
        at=case.state.now,
    )
    count, needed = len(votes) + 1, case.request.min_approvals
    if count < needed:
        case.record("approve", Outcome.COUNTED, f"{right.text}; {count} of {needed} approvals")
        return Decided(StepStatus.SUSPENDED, count, needed)
    at = _closed(case, RequestEventKind.APPROVED)
    output: dict[str, Any] = {
        "approval_message": case.request.message,
        "approved": True,
        "approved_by": ", ".join([*(vote.user.email for vote in votes), case.caller.user.email]),
        "approved_at": _exactly(at),
    }
    sealed = None
    if form is not None:
        output, sealed = form.joined(output)
    result = Result(output=output, has_output=True, output_sealed=sealed)
    given_clear = form.clear if form is not None else {}
    _settle(case, StepEventKind.SUCCEEDED, result, "approved", at, given_clear)
    case.record("approve", detail=right.text)
    return Decided(RequestStatus.APPROVED, count, needed)


def _standing(case: Case) -> list[Vote]:
    """Earlier approvals by people who may still decide, oldest first."""
    votes = Vote.objects.filter(request=case.request, approved=True).select_related("user")
    return [
        vote
        for vote in votes.order_by("at", "id")
        if rights.right_to_decide(vote.user, case.request) is not None
    ]


def _reject(case: Case, reason: str, right: Right) -> Decided:
    reason = redact(_cut(reason), contexts.masks_of(case.advance.job))
    at = _closed(case, RequestEventKind.REJECTED, reason)
    Vote.objects.update_or_create(
        request=case.request,
        user_id=case.caller.user.pk,
        defaults={
            "approved": False,
            "reason": reason,
            "input": None,
            "input_sealed": None,
            "at": at,
        },
    )
    output = {
        "approval_message": case.request.message,
        "approved": False,
        "rejected_by": case.caller.user.email,
        "rejected_at": _exactly(at),
        "rejection_reason": reason or REJECTED,
    }
    result = Result(error=reason or REJECTED, output=output, has_output=True)
    _settle(case, StepEventKind.FAILED, result, "rejected", at)
    case.record("reject", detail="; ".join(filter(None, (right.text, reason))))
    return Decided(RequestStatus.REJECTED)


def _closed(case: Case, event: RequestEventKind, reason: str = "") -> datetime:
    at = transitions.close(case.request.pk, event, by=case.caller.user.email, reason=reason)
    if at is None:
        raise PlatformError(f"request {case.request.pk} is closed but its step is suspended")
    return at


def _settle(
    case: Case,
    event: StepEventKind,
    result: Result,
    done: str,
    at: datetime,
    given: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """End the step, or let it go on; log it, and advance the job."""
    request, email = case.request, case.caller.user.email
    text = f"[approval] Step '{request.step_name}' {done} by {email}"
    say(request.job_id, text, at=at.timestamp(), step_id=request.step_id)
    is_approved = event is StepEventKind.SUCCEEDED
    ruling = Ruling(request.step_id, request.fence, is_approved, email, result.error, given)
    kind = case.advance.plan.nodes[case.state.base].action.type
    if kind != OWN_KIND and ports.decided(kind, case.advance, ruling):
        return
    moved = case.advance.settle(
        [request.step_id], event, result, fence=request.fence, actor=email, base=case.step_name
    )
    if not moved:
        raise PlatformError(f"step {request.step_id} is not suspended but its request is open")
    case.advance.run(actor=email)


def _withdraw(case: Case) -> Decided | Conflict:
    user = rights.fresh(case.caller.user)
    if not rights.sees(user, case.request):
        raise NotFound(rights.UNSEEN)
    refusal = refuse_closed(case)
    if refusal is not None:
        return refusal
    if not Vote.objects.filter(request=case.request, user=user).delete()[0]:
        raise Conflict("You have not approved this, so there is nothing to withdraw")
    left, needed = len(_standing(case)), case.request.min_approvals
    case.record("withdraw", detail=f"{left} of {needed} approvals")
    return Decided(StepStatus.SUSPENDED, left, needed)


def _when(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def _exactly(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _cut(reason: str) -> str:
    """The reason as stored: at most 4096 bytes."""
    clean = reason.replace("\x00", "\ufffd").strip()
    return clean.encode("utf-8", "replace")[:LONGEST_REASON].decode("utf-8", "ignore")
