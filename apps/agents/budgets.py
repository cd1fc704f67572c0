"""What the limits of a task, and of its workspace, leave to all agents together: in one job, and in
one day."""

from __future__ import annotations

from uuid import UUID

from apps.agents.models import Call
from apps.jobs.database.sql import fetch_one
from apps.jobs.flow import blueprints
from apps.jobs.values import Claim
from apps.workspaces.revisions import definition_of
from engine.agents.limits import Spent, TaskLimits, calls_left, reached, tightest
from engine.lifecycle import CallStatus

TASK, WORKSPACE = "task", "workspace"
OF_JOB = """
SELECT count(*), coalesce(sum(t.tokens_in + t.tokens_out), 0)::bigint,
    coalesce(sum(t.cost), 0)::float, count(*) FILTER (WHERE t.cost IS NULL)
FROM agents_turn t JOIN agents_conversation v ON v.id = t.conversation_id
WHERE v.job_id = %s AND t.answered_at IS NOT NULL
"""
MADE = (CallStatus.BEGUN, CallStatus.DONE, CallStatus.FAILED)
OF_DAY = """
SELECT coalesce(sum(answers), 0)::bigint, coalesce(sum(tokens_in + tokens_out), 0)::bigint,
    coalesce(sum(cost), 0)::float, coalesce(sum(unpriced), 0)::bigint
FROM agents_spending WHERE day = (clock_timestamp() AT TIME ZONE 'UTC')::date
    AND workspace = %s AND (task_name = %s OR %s)
"""


def refusal(claim: Claim) -> str | None:
    """Why no agent of this job may ask a model; None if one may."""
    for owner, limits in _limits(claim).items():
        why = reached(limits.job, _spent(OF_JOB, claim.job_id))
        if why is not None:
            return f"The {owner}'s limit of a job is reached: {why}"
        if limits.day.tokens is None and limits.day.cost is None:
            continue
        of_all = owner == WORKSPACE
        why = reached(limits.day, _spent(OF_DAY, claim.workspace, claim.task_name, of_all))
        if why is not None:
            return f"The {owner}'s limit of a day is reached: {why}"
    return None


def tool_calls_left(claim: Claim) -> int | None:
    """How many tool calls agents of this job may still make; None: any number."""
    limits = tightest(limits.job for limits in _limits(claim).values())
    if limits.tool_calls is None:
        return None
    made = Call.objects.filter(conversation__job_id=claim.job_id, status__in=MADE).count()
    return calls_left(limits, Spent(tool_calls=made))


def _limits(claim: Claim) -> dict[str, TaskLimits]:
    known = {
        TASK: blueprints.load(claim.blueprint_id).task.limits,
        WORKSPACE: definition_of(claim.revision_id).limits,
    }
    return {owner: limits for owner, limits in known.items() if limits is not None}


def _spent(query: str, *of: str | UUID | bool) -> Spent:
    row = fetch_one(query, of)
    turns, tokens, cost, unpriced = row if row is not None else (0, 0, 0.0, 0)
    return Spent(turns=turns, tokens=tokens, cost=cost, unpriced=unpriced)
