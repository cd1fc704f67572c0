"""The one decision. Everything here happens in one transaction that holds the lock of the job.

A try that is refused is recorded in the same transaction; what it had written before is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from apps.accounts.grants import role_on
from apps.approvals import answers, audit, rights, transitions
from apps.approvals.answers import Answers
from apps.approvals.audit import Caller
from apps.approvals.errors import NotAllowed
from apps.approvals.models import ApprovalRequest, Vote
from apps.approvals.rights import Right
from apps.approvals.transitions import State
from apps.jobs.database.sql import retried
from apps.jobs.flow import blueprints, contexts
from apps.jobs.flow.advance import Advance, advancing
from apps.jobs.flow.redaction import shown
from apps.jobs.log import chunks as logs
from apps.jobs.services import ring_after_commit
from apps.jobs.transitions.moves import Result
from engine.errors import AuthorError, Conflict, NotFound, PlatformError
from engine.lifecycle import StepEventKind

REJECTED = "Approval rejected"
LONGEST_REASON = 4096  # bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """What somebody decides. `shown` is the digest of what they saw; None where the caller did not
    look."""

    approved: bool
    given: Mapping[str, Any] | None = field(default=None, repr=False)
    reason: str = ""
    shown: str | None = None

    @property
    def what(self) -> str:
        return "approve" if self.approved else "reject"


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of the step: approved, rejected, or still suspended because more approvals are
    needed."""

    status: str
    approvals: int = 0
    needed: int = 1


@dataclass(frozen=True, slots=True)
class Case:
    """A request under the lock of its job, with the person who wants something of it."""

    request: ApprovalRequest
    state: State
    advance: Advance
    caller: Caller

    @property
    def step_name(self) -> str:
        """For the advance: the name in the flow; instances of loops count as their loop."""
        return self.state.base if self.request.step_name == self.state.base else ""


def judged(request_id: int, caller: Caller, what: str, judge: Callable[[Case], Any]) -> Any:
    """What `judge` answers under the lock of the job. Raises what it refuses, after the refusal was
    recorded."""
    answer = _judged(request_id, caller, what, judge)
    if isinstance(answer, Exception):
        raise answer
    return answer


@retried
def _judged(request_id: int, caller: Caller, what: str, judge: Callable[[Case], Any]) -> Any:
    case = opened(request_id, caller)
    try:
        with transaction.atomic():
            answer = judge(case)
    except (NotFound, NotAllowed, Conflict, AuthorError) as error:
        answer = error
    if isinstance(answer, Exception):
        audit.record_of(caller, case.request, what, outcome_of(answer), str(answer))
    ring_after_commit(case.advance)
    return answer


def opened(request_id: int, caller: Caller) -> Case:
    """The request, its job locked until the transaction ends. Raises NotFound."""
    job_id = ApprovalRequest.objects.filter(pk=request_id).values_list("job_id", flat=True).first()
    advance = advancing(job_id, blueprints.load) if job_id is not None else None
    if advance is None:
        raise NotFound(rights.UNSEEN)
    # Only what is read from here on counts: the lock has been waited for.
    request = ApprovalRequest.objects.select_related("workspace").get(pk=request_id)
    state = transitions.state_of(request_id)
    if state is None:
        raise NotFound(rights.UNSEEN)
    return Case(request, state, advance, caller)


def outcome_of(refusal: Exception) -> str:
    """How the record calls a refusal."""
    match refusal:
        case Conflict():
            return "late"
        case NotFound() | NotAllowed():
            return "refused"
    return "invalid"


def decide(case: Case, verdict: Verdict) -> Decided | Conflict:
    """Approve or reject, if the caller may, and if it is not too late."""
    user = rights.fresh(case.caller.user)
    right = rights.right_of(user, case.request)
    refusal = refuse_closed(case)
    if refusal is not None:
        return refusal
    if verdict.shown is not None and verdict.shown != case.request.digest:
        raise Conflict("What you saw is not what is asked now; load the page again")
    before = Vote.objects.filter(request=case.request, user=user).first()
    if not verdict.approved:
        return _reject(case, verdict, right)
    if before is not None:
        raise Conflict(f"You approved this already at {_when(before.at)}; it needs one more person")
    return _approve(case, verdict, right)


def refuse_closed(case: Case) -> Conflict | None:
    """Why nobody can decide any more; None while the request is open. Lets the time-out happen if
    it is due."""
    if case.state.is_open and case.state.is_late:
        time_out(case.advance, case.request, case.step_name)
        case.request.refresh_from_db()
        return Conflict(closed_in_words(case.request, "failed"))
    if case.state.is_open:
        return None
    current = case.state.step_status
    if not case.state.is_of_this_suspension:
        return Conflict(
            f"Step '{case.request.step_name}' was started anew since; look at its new request"
        )
    return Conflict(closed_in_words(case.request, current))


def closed_in_words(request: ApprovalRequest, current: str) -> str:
    """Who decided, and when."""
    text = f"Step '{request.step_name}' is not in suspended state (current: {current})"
    if request.closed_at is None:
        return text
    by = f" by {request.closed_by}" if request.closed_by else ""
    return f"{text}: {request.get_status_display().lower()}{by} at {_when(request.closed_at)}"


def _when(moment: Any) -> str:
    return str(moment.isoformat(timespec="seconds")).replace("+00:00", "Z")


def _reject(case: Case, verdict: Verdict, right: Right) -> Decided:
    masks = contexts.masks_of(case.advance.job)
    reason = str(shown(_cut(verdict.reason), masks))
    email = case.caller.user.email
    at = _closed(case, "rejected", reason)
    defaults = {"approved": False, "reason": reason, "input": None, "input_sealed": None, "at": at}
    Vote.objects.update_or_create(
        request=case.request, user_id=case.caller.user.pk, defaults=defaults
    )
    output = {
        "approval_message": case.request.message,
        "approved": False,
        "rejected_by": email,
        "rejected_at": _exactly(at),
        "rejection_reason": reason or REJECTED,
    }
    _settle(
        case, StepEventKind.FAILED, Result(error=reason or REJECTED, output=output, has_output=True)
    )
    audit.record_of(
        case.caller, case.request, "reject", "done", "; ".join(filter(None, (right.text, reason)))
    )
    logs.say(
        case.request.job_id,
        f"[approval] Step '{case.request.step_name}' rejected by {email}",
        at=at.timestamp(),
    )
    return Decided("rejected")


def _approve(case: Case, verdict: Verdict, right: Right) -> Decided:
    votes = _standing(case)
    form = answers.checked(case, verdict.given, [vote for vote, _ in votes])
    Vote.objects.create(
        request=case.request,
        user_id=case.caller.user.pk,
        approved=True,
        input=form.shown,
        input_sealed=form.sealed,
        at=case.state.now,
    )
    count, needed = len(votes) + 1, case.request.min_approvals
    if count < needed:
        detail = f"{right.text}; {count} of {needed} approvals"
        audit.record_of(case.caller, case.request, "approve", "counted", detail)
        return Decided("suspended", count, needed)
    _complete(case, form)
    audit.record_of(case.caller, case.request, "approve", "done", right.text)
    return Decided("approved", count, needed)


def _standing(case: Case) -> list[tuple[Vote, Right]]:
    """The approvals given before, of those who may still give them, the oldest first."""
    standing = []
    for vote in (
        Vote.objects.filter(request=case.request, approved=True)
        .select_related("user")
        .order_by("at", "id")
    ):
        try:
            standing.append((vote, rights.right_of(vote.user, case.request)))
        except (NotFound, NotAllowed):
            continue
    return standing


def _complete(case: Case, form: Answers) -> None:
    email = case.caller.user.email
    at = _closed(case, "approved")
    head = {
        "approval_message": case.request.message,
        "approved": True,
        "approved_by": email,
        "approved_at": _exactly(at),
    }
    output, sealed = form.joined(head)
    _settle(
        case, StepEventKind.SUCCEEDED, Result(output=output, has_output=True, output_sealed=sealed)
    )
    logs.say(
        case.request.job_id,
        f"[approval] Step '{case.request.step_name}' approved by {email}",
        at=at.timestamp(),
    )


def _closed(case: Case, status: str, reason: str = "") -> Any:
    at = transitions.close(case.request.pk, status, by=case.caller.user.email, reason=reason)
    if at is None:
        raise PlatformError(f"request {case.request.pk} is closed although its step is suspended")
    return at


def _settle(case: Case, event: StepEventKind, result: Result) -> None:
    moved = case.advance.settle(
        [case.request.step_id],
        event,
        result,
        fence=case.request.fence,
        actor=case.caller.user.email,
        base=case.step_name,
    )
    if not moved:
        raise PlatformError(
            f"step {case.request.step_id} is not suspended although its request is open"
        )
    case.advance.run(actor=case.caller.user.email)


def time_out(advance: Advance, request: ApprovalRequest, base: str) -> None:
    """Fail the step of an open request past its deadline. Called with the job locked."""
    transitions.close(request.pk, "timed_out")
    error = f"Approval step timed out after {request.timeout_text}"
    advance.settle(
        [request.step_id], StepEventKind.FAILED, Result(error=error), fence=request.fence, base=base
    )
    audit.record(request, "time_out", "done", detail=error, via="server")
    advance.run()


def withdraw(case: Case) -> Decided | Conflict:
    """Take one's own approval back while others are still waited for."""
    user = rights.fresh(case.caller.user)
    if role_on(user, case.request.workspace.name) is None:
        raise NotFound(rights.UNSEEN)
    refusal = refuse_closed(case)
    if refusal is not None:
        return refusal
    if not Vote.objects.filter(request=case.request, user=user).delete()[0]:
        raise Conflict("You have not approved this, so there is nothing to take back")
    left = len(_standing(case))
    audit.record_of(
        case.caller,
        case.request,
        "withdraw",
        "done",
        f"{left} of {case.request.min_approvals} approvals",
    )
    return Decided("suspended", left, case.request.min_approvals)


def _exactly(moment: Any) -> str:
    return str(moment.isoformat()).replace("+00:00", "Z")


def _cut(reason: str) -> str:
    """The reason as it can be stored, at most 4096 bytes of it."""
    clean = reason.replace("\x00", "\ufffd").strip()
    return clean.encode("utf-8", "replace")[:LONGEST_REASON].decode("utf-8", "ignore")
