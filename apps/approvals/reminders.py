"""Timeouts, reminders and the escalation of requests. Called by the conductor.

Each phase selects rows by their state and handles one request per transaction. It may run anywhere,
any number of times.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from datetime import timedelta

from django.db import DatabaseError

from apps.approvals import services, transitions
from apps.approvals.links import page_url
from apps.approvals.models import ApprovalRequest, Notice
from apps.approvals.suspension import next_reminder
from apps.approvals.transitions import State
from apps.jobs import bells, ports
from apps.jobs.database.sql import retried
from apps.jobs.flow import blueprints
from apps.jobs.flow.advance import Advance, advancing
from apps.jobs.ports import Suspension
from apps.jobs.transitions.moves import say
from engine.errors import StroemError
from engine.spec.model import Action, Escalation

log = logging.getLogger("stroem.approvals")
BATCH = 200


def overdue_approvals() -> int:
    """Fail the steps that were not decided in time."""
    return _each(transitions.overdue(BATCH), _time_out)


def due_reminders() -> int:
    """Remind the approvers, or add those of the escalation."""
    return _each(transitions.to_remind(BATCH), _remind)


def orphaned_approvals() -> int:
    """Close requests whose step went on without them."""
    return transitions.close_orphans()


def _each(request_ids: Iterable[int], work: Callable[[int], None]) -> int:
    done = 0
    for request_id in request_ids:
        try:
            work(request_id)
            done += 1
        except (StroemError, DatabaseError) as error:
            log.warning("approval %s: %s", request_id, error)
    return done


def _opened(request_id: int) -> tuple[Advance, ApprovalRequest, State] | None:
    """The request with its job locked; None if it is no longer open."""
    job_id = ApprovalRequest.objects.filter(pk=request_id).values_list("job_id", flat=True).first()
    advance = advancing(job_id, blueprints.load) if job_id is not None else None
    state = transitions.state_of(request_id)
    if advance is None or state is None or not state.is_open:
        return None
    return advance, ApprovalRequest.objects.select_related("workspace").get(pk=request_id), state


@retried
def _time_out(request_id: int) -> None:
    found = _opened(request_id)
    if found is None or not found[2].is_late:
        return
    advance, request, state = found
    services.time_out(advance, request, state.base if request.step_name == state.base else "")
    bells.ring_after_commit(advance.bells)


@retried
def _remind(request_id: int) -> None:
    """Send one notice for everything that was due meanwhile; the escalation replaces a reminder."""
    found = _opened(request_id)
    if (
        found is None
        or found[1].remind_at is None
        or found[1].remind_at > found[2].now
        or found[2].is_late
    ):
        return
    advance, request, state = found
    action = advance.plan.nodes[state.base].action
    age = state.now - request.created_at
    number = sum(age >= timedelta(seconds=span.seconds) for span in action.reminders)
    request.remind_at = next_reminder(action, request.created_at, state.now)
    if (
        action.escalation is not None
        and request.escalated_at is None
        and _is_due(action.escalation, age)
    ):
        _escalate(request, action, state)
        _tell(advance, request, state, Notice.Kind.ESCALATED, 0)
    elif number > request.reminders_sent:
        transitions.record(request, "remind", detail=f"reminder {number}")
        _tell(advance, request, state, Notice.Kind.REMINDER, number)
    request.reminders_sent = max(number, request.reminders_sent)
    request.save(update_fields=["remind_at", "reminders_sent", "escalated_at", "users", "groups"])


def _is_due(escalation: Escalation, age: timedelta) -> bool:
    return age >= timedelta(seconds=escalation.after.seconds)


def _escalate(request: ApprovalRequest, action: Action, state: State) -> None:
    """Add the approvers of the escalation."""
    assert action.escalation is not None
    added = [email.lower() for email in action.escalation.users]
    request.users = [*request.users, *(email for email in added if email not in request.users)]
    request.groups = [
        *request.groups,
        *(name for name in action.escalation.groups if name not in request.groups),
    ]
    request.escalated_at = state.now
    names = ", ".join([*added, *(f"the group {name}" for name in action.escalation.groups)])
    transitions.record(request, "escalate", detail=f"asks {names} as well")


def _tell(
    advance: Advance, request: ApprovalRequest, state: State, kind: Notice.Kind, number: int
) -> None:
    Notice.objects.create(request=request, kind=kind, number=number)
    words = (
        f"still waits for approval (reminder {number})"
        if number
        else "waits for approval: escalated"
    )
    text = f"[approval] Step '{request.step_name}' {words}"
    say(request.job_id, text, at=state.now.timestamp(), step_id=request.step_id)
    url = page_url(request.pk)
    suspension = Suspension(
        request.step_id, request.step_name, request.fence, request.message, url, kind.value, number
    )
    ports.suspended(advance.job, advance.plan, suspension)
