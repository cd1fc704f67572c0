"""What people have decided about a tool call or a question: the step goes on with it. Under the
lock of the job."""

from __future__ import annotations

from django.db.models import F

from apps.agents import conversations, parking, transitions
from apps.agents.models import Call, Conversation
from apps.jobs.database.sql import fetch
from apps.jobs.flow import abroad, contexts
from apps.jobs.flow.advance import Advance
from apps.jobs.flow.contexts import redact, redact_and_seal
from apps.jobs.ports import Ruling
from engine.agents.tools import ASK_USER
from engine.lifecycle import CallEventKind, CallStatus

WAITED = """
UPDATE agents_conversation SET asked_at = NULL,
    waited_s = waited_s + coalesce(extract(epoch FROM clock_timestamp() - asked_at), 0)
WHERE id = %s
"""
LONGEST_REFUSAL = 500
UNKNOWN = "Its result was lost: it may have had its effect, and was not made again"


def decided(advance: Advance, ruling: Ruling) -> None:
    """Let the step go on with what people decided."""
    row = Conversation.objects.filter(step_id=ruling.step_id, parked_fence=ruling.fence).first()
    if row is None:
        return
    asked = Call.objects.filter(conversation=row, status=CallStatus.ASKED)
    call = asked.order_by("seq", "index").first()
    if row.wants_more:
        _settle_limits(row, ruling)
    elif call is not None:
        _carry(advance, call, ruling)
    fetch(WAITED, (row.pk,))
    row.refresh_from_db()
    parking.resume(advance, row)


def _settle_limits(row: Conversation, ruling: Ruling) -> None:
    found = Conversation.objects.filter(pk=row.pk)
    if ruling.approved:
        found.update(wants_more="", raised=F("raised") + 1)
        return
    who = "A person refused to raise it" if ruling.by else "Nobody raised it in time"
    why = f": {ruling.reason}" if ruling.reason and ruling.by else ""
    found.update(wants_more="", no_more=f"{who}{why}"[:LONGEST_REFUSAL])


def _carry(advance: Advance, call: Call, ruling: Ruling) -> None:
    node = advance.plan.nodes[call.conversation.step_name.partition("[")[0]]
    masks = contexts.masks_of(advance.job, abroad.masks_of(node))
    if not ruling.approved:
        who = "A person refused" if ruling.by else "Nobody decided in time"
        why = f": {ruling.reason}" if ruling.reason and ruling.by else ""
        so = "It was not made" if call.begun_at is None else UNKNOWN
        transitions.move(call.pk, CallEventKind.REFUSED, result=f"{who}{why}. {so}.")
    elif call.tool == ASK_USER:
        answer = str(redact(str(ruling.given.get("answer", "")), masks))
        transitions.move(call.pk, CallEventKind.DONE, result=answer)
    else:
        _reserve(call, ruling, masks)


def _reserve(call: Call, ruling: Ruling, masks: tuple[str, ...]) -> None:
    """Fix what is made: the arguments as approved, with their digest."""
    before = conversations.arguments_of(call)
    changed = {
        name: value
        for name, value in ruling.given.items()
        if value is not None and value != redact(before.get(name), masks)
    }
    arguments = {**before, **changed}
    seen, sealed = redact_and_seal(arguments, masks)
    Call.objects.filter(pk=call.pk).update(
        arguments=conversations.storable_json(seen),
        arguments_sealed=sealed,
        digest=conversations.digest_of(call.tool, arguments),
        approved_by=ruling.by,
    )
    transitions.move(call.pk, CallEventKind.APPROVED)
