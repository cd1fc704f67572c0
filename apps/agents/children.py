"""Child jobs that tools start, and the way back when they end (`apps.jobs.ports.Caller`)."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.db import transaction

from apps.agents import parking, transitions
from apps.agents.models import Call, Conversation
from apps.agents.toolbox import Tool
from apps.jobs.database.sql import retried
from apps.jobs.flow import blueprints, contexts, starting
from apps.jobs.flow.advance import advancing
from apps.jobs.flow.contexts import redact
from apps.jobs.flow.starting import Origin
from apps.jobs.models import Job
from apps.workspaces.models import Revision
from engine.errors import AuthorError
from engine.lifecycle import CallEventKind, CallStatus, JobStatus

SOURCE = "agent_tool"
LONGEST_RESULT = 50_000  # letters that the model reads


def check(tool: Tool, arguments: Any) -> None:
    """Raises AuthorError, with words for the model, for arguments that the tool does not have.
    Their types are checked when the task is started."""
    if not isinstance(arguments, dict):
        raise AuthorError("The arguments must be a JSON object")
    hidden = sorted(set(arguments) - set(tool.spec.schema["properties"]))
    if hidden and not tool.server:  # a server judges for itself
        raise AuthorError(f"The tool has no arguments {', '.join(map(repr, hidden[:10]))}")
    required = tool.spec.schema.get("required", ())
    missing = [str(name) for name in required if name not in arguments] if required else []
    if missing:
        raise AuthorError(f"The tool needs the arguments {', '.join(map(repr, missing))}")


def start(job: Job, row: Conversation, tool: Tool, call: Call, arguments: Any) -> None:
    """Start the child job of a call, in the parent's transaction. Raises AuthorError with words
    for the model."""
    if job.depth + 1 > starting.MAX_DEPTH:
        raise AuthorError(f"Maximum task nesting depth ({starting.MAX_DEPTH}) exceeded")
    origin = Origin(
        SOURCE,
        f"{job.id}/{row.step_name}",
        job.started_by_id,
        parent_job_id=job.id,
        parent_step_id=row.step_id,
        parent_step_name=row.step_name,
        depth=job.depth + 1,
    )
    with transaction.atomic():
        node = blueprints.load(job.blueprint_id).nodes[row.step_name.partition("[")[0]]
        revision = Revision.objects.get(id=node.revision_of_action(job.revision_id))
        hidden = contexts.masks_of(job) if node.abroad is not None else ()
        child = starting.start_at(
            revision, tool.task, arguments, origin, priority=job.priority, hidden=hidden
        )
        transitions.move(call.pk, CallEventKind.BEGUN, child=child.id)


def holds(child_id: UUID) -> bool:
    return transitions.holds(child_id)


def adopt(child_id: UUID, following_id: UUID) -> None:
    transitions.adopt(child_id, following_id)


@retried
def ended(child: Job) -> None:
    """Carry the end of a child to the call that started it, and wake its step if nothing else is
    under way."""
    waiting = Call.objects.filter(child_job_id=child.id, status=CallStatus.BEGUN)
    if child.parent_job_id is None or not waiting.exists():
        return
    advance = advancing(child.parent_job_id, blueprints.load)
    if advance is None:
        return
    for call in waiting.select_related("conversation"):
        is_done = child.status == JobStatus.COMPLETED
        event = CallEventKind.DONE if is_done else CallEventKind.FAILED
        # The model may have passed on what only the parent knows to be secret.
        masks = (*contexts.masks_of(child), *contexts.masks_of(advance.job))
        result = cut(str(redact(_result(child), masks)))
        transitions.move(call.pk, event, result=result)
        parking.wake(advance, call.conversation)


def _result(child: Job) -> str:
    """The output, or why there is none."""
    if child.status != JobStatus.COMPLETED:
        why = f": {child.error}" if child.error else ""
        return f"The task {child.status}{why}"
    return json.dumps(child.output, ensure_ascii=False)


def cut(text: str) -> str:
    if len(text) <= LONGEST_RESULT:
        return text
    return f"{text[:LONGEST_RESULT]}\n[cut: {len(text):,} letters in all]"
