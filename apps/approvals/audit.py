"""The record of every try: who, what, with which outcome, when, by which way and from where. Rows
are only added."""

from __future__ import annotations

from dataclasses import dataclass

from apps.accounts.models import User
from apps.approvals.models import ApprovalRequest, Record

LONGEST = 4096


@dataclass(frozen=True, slots=True)
class Caller:
    """A signed-in person, the way they came (api, admin, cli, link) and their address."""

    user: User
    via: str
    address: str = ""


def record(
    request: ApprovalRequest,
    what: str,
    outcome: str,
    *,
    detail: str = "",
    actor: str = "",
    via: str,
    address: str = "",
) -> Record:
    """Add a row. `request` comes with its workspace; `detail` must hold no secret."""
    return Record.objects.create(
        request_id=request.pk,
        job_id=request.job_id,
        workspace=request.workspace.name,
        task_name=request.task_name,
        step_name=request.step_name,
        actor=actor,
        what=what,
        outcome=outcome,
        detail=detail.replace("\x00", "\ufffd")[:LONGEST],
        via=via,
        address=address[:100],
    )


def record_of(
    caller: Caller, request: ApprovalRequest, what: str, outcome: str, detail: str = ""
) -> Record:
    """Add a row about what this caller tried."""
    return record(
        request,
        what,
        outcome,
        detail=detail,
        actor=caller.user.email,
        via=caller.via,
        address=caller.address,
    )
