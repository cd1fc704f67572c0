"""Starting an approval step: render its message, suspend it, notify the approvers. All in the job's
transaction."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from apps.approvals import transitions
from apps.approvals.links import page_url
from apps.approvals.models import ApprovalRequest, Notice
from apps.jobs import ports
from apps.jobs.flow.contexts import redact
from apps.jobs.models import Job, StepEvent
from apps.jobs.ports import Asking, Dispatch, Suspension
from apps.jobs.transitions import moves as pen
from apps.jobs.transitions import rows
from engine import templating
from engine.errors import TemplateError
from engine.lifecycle import JobEventKind, StepEventKind
from engine.spec.freeze import to_json
from engine.spec.model import Action


def suspend(dispatch: Dispatch) -> None:
    """Start an approval step. Raises TemplateError if its message cannot be rendered."""
    node = dispatch.node
    message = _message(dispatch)
    limit = node.step.timeout or node.action.timeout
    fence, _ = pen.move(
        dispatch.step_id,
        StepEventKind.SUSPENDED,
        deadline_s=limit.seconds if limit else None,
        input=redact(dict(dispatch.values), dispatch.masks),
    )
    since, until = rows.await_decision(dispatch.step_id, {"approval_message": message})
    asking = Asking(
        dispatch.job, dispatch.plan, node, dispatch.step_id, dispatch.step_name, fence, message,
        node.action.input, limit,
    )  # fmt: skip
    _announce(asking, since, until)


def ask(asking: Asking) -> int:
    """Suspend a running step until people have decided; returns its new fence."""
    fence, _ = pen.move(
        asking.step_id,
        StepEventKind.SUSPENDED,
        fence=asking.fence,
        deadline_s=asking.time_out.seconds if asking.time_out else None,
    )
    since, until = rows.await_decision(asking.step_id, {"approval_message": asking.message})
    _announce(replace(asking, fence=fence), since, until)
    return fence


def _announce(asking: Asking, since: datetime, until: datetime | None) -> None:
    """Write the request, and tell those who are asked."""
    request = _request(asking, since)
    limit = asking.time_out
    request.deadline_at, request.timeout_text = until, limit.text[:50] if limit else ""
    request.save(force_insert=True)
    Notice.objects.create(request=request, kind=Notice.Kind.SUSPENDED)
    pen.say(
        asking.job.id,
        f"[approval] Step '{asking.step_name}' waiting for approval",
        at=since.timestamp(),
        step_id=asking.step_id,
    )
    asking.job.refresh_from_db(fields=["status", "started_at"])
    suspension = Suspension(
        asking.step_id, asking.step_name, asking.fence, asking.message, page_url(request.pk)
    )
    ports.suspended(asking.job, asking.plan, suspension)


def _message(dispatch: Dispatch) -> str:
    """The rendered message, with the job's input overlaid by the step's, and earlier outputs;
    secret values masked."""
    context = dict(dispatch.context)
    context["input"] = {**dispatch.context["input"], **dispatch.values}
    try:
        text = templating.render(dispatch.node.action.message or "", context)
    except TemplateError as error:
        what = f"Failed to render approval message for step '{dispatch.step_name}'"
        raise TemplateError(f"{what}: {error}") from error
    return (
        str(redact(text, dispatch.masks))
        .replace("\x00", "\ufffd")
        .encode("utf-8", "replace")
        .decode()
    )


def _request(asking: Asking, since: datetime) -> ApprovalRequest:
    action, job, message = asking.node.action, asking.job, asking.message
    fields = {name: to_json(field) for name, field in asking.fields.items()}
    fence = asking.fence
    shown_to_people = [str(job.id), job.revision_id, asking.step_id, fence, message, fields]
    users = [str(email).lower() for email in action.approvers.get("users", ())]
    groups = [str(name) for name in action.approvers.get("groups", ())]
    return ApprovalRequest(
        job=job,
        step_id=asking.step_id,
        fence=fence,
        workspace_id=job.workspace_id,
        task_name=job.task_name,
        step_name=asking.step_name,
        message=message,
        fields=fields,
        about=asking.about,
        summary=asking.summary,
        digest=hashlib.sha256(json.dumps(shown_to_people, sort_keys=True).encode()).hexdigest(),
        users=users,
        groups=groups,
        asks_operators=not (users or groups),
        min_approvals=action.min_approvals,
        separation=action.separation,
        starters=_starters(job),
        requested_by_id=job.started_by_id,
        created_at=since,
        remind_at=next_reminder(action, since, since),
    )


def _starters(job: Job) -> list[str]:
    """The people who started or restarted the job."""
    restarts = StepEvent.objects.filter(job_id=job.id, kind=f"job_{JobEventKind.REOPENED}").exclude(
        actor=""
    )
    found = {actor.lower() for actor in restarts.values_list("actor", flat=True)}
    if job.started_by is not None:
        found.add(job.started_by.email.lower())
    return sorted(found)


def next_reminder(action: Action, since: datetime, after: datetime) -> datetime | None:
    """The time of the first reminder, or the escalation, after `after`."""
    spans = [span.seconds for span in action.reminders]
    if action.escalation is not None:
        spans.append(action.escalation.after.seconds)
    due = [
        moment for moment in (since + timedelta(seconds=span) for span in spans) if moment > after
    ]
    return min(due, default=None)


def close_cancelled(job_id: UUID, actor: str, reason: str) -> None:
    """Close the requests of a cancelled job."""
    closed = transitions.close_of_job(job_id, by=actor, reason=reason)
    for request in ApprovalRequest.objects.filter(pk__in=closed).select_related("workspace"):
        transitions.record(request, "cancel", detail=reason, actor=actor)
