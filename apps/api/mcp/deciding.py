"""Deciding approvals at /mcp: with an API key that names the scope `approvals:decide`. That the
owner may do everything else is not enough: whoever gives a key to an agent must have meant this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import ParseError

from apps.accounts.models import Scope, User
from apps.api import scope
from apps.approvals import rights, services
from apps.approvals.models import ApprovalRequest
from apps.approvals.transitions import Caller
from apps.audit import services as audit
from engine.errors import NotFound

MOST = 50
Arguments = Mapping[str, Any]


def may_decide(user: User) -> bool:
    return user.key is not None and Scope.DECIDE in user.key.scopes


def list_approvals(user: User, given: Arguments) -> Any:
    rows = rights.waiting_for(user).select_related("workspace", "requested_by")
    known = rows.prefetch_related("delegations__giver").order_by("created_at", "id")
    found = list(known[: MOST + 1])
    shown: dict[str, Any] = {"approvals": [_described(user, row) for row in found[:MOST]]}
    if len(found) > MOST:
        shown["more"] = f"only the oldest {MOST} are listed"
    return shown


def decide_approval(user: User, given: Arguments) -> Any:
    decision = given["decision"]
    if decision not in ("approve", "reject"):
        raise ParseError("decision must be approve or reject")
    values = given.get("input") or {}
    if not isinstance(values, dict):
        raise ParseError("`input` must be a JSON object mapping field names to values")
    caller = Caller(user, "mcp", audit.current().address)
    try:
        job = scope.job(user, given["job_id"])
    except NotFound:
        job_id = scope.uuid_of(given["job_id"], "Invalid job ID")
        services.record_unseen(job_id, given["step"], caller, decision)
        raise
    request = services.request_of(job.pk, given["step"])
    decided = services.decide(
        request.pk,
        caller,
        approved=decision == "approve",
        given=values,
        reason=given.get("reason") or "",
        shown=given["digest"],
    )
    return {"status": decided.status}


def _described(user: User, row: ApprovalRequest) -> dict[str, Any]:
    rights.veiled(user, row)
    return {
        "job_id": str(row.job_id),
        "step": row.step_name,
        "workspace": row.workspace.name,
        "task_name": row.task_name,
        "message": row.message,
        "hidden": rights.hidden_from(user, row) or None,
        "fields": row.fields,
        "digest": row.digest,
        "deadline_at": row.deadline_at,
    }
