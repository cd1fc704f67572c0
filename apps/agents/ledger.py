"""The door for the process that speaks to models. Every function that writes is one transaction and
refuses if the attempt is no longer the caller's; every row is written before what it announces."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db.models import Count, F, Q, Sum
from django.db.models.functions import Now

from apps.agents import asking, children, conversations, parking, spending, transitions
from apps.agents.models import Call, Conversation, Turn
from apps.agents.parking import Parked as Parked
from apps.agents.toolbox import Tool, tools_of
from apps.jobs.database.sql import retried, storable
from apps.jobs.flow import blueprints, contexts
from apps.jobs.flow.advance import advancing
from apps.jobs.flow.redaction import redact, redact_and_seal, seal_with
from apps.jobs.models import Job
from apps.jobs.transitions import rows
from apps.jobs.values import Claim
from engine.agents.dialogue import Answer, Dialogue, ToolSpec
from engine.agents.limits import Limits, Spent, calls_left
from engine.errors import AuthorError
from engine.lifecycle import TO_MAKE, CallEventKind, CallStatus

LONGEST_NAME = 200
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Opening:
    """How a conversation begins."""

    provider: str
    model: str
    system: str = field(repr=False)
    prompt: str = field(repr=False)
    masks: tuple[str, ...] = field(repr=False, default=())


@dataclass(frozen=True, slots=True)
class Opened:
    dialogue: Dialogue
    tools: tuple[ToolSpec, ...]


@retried
def open(claim: Claim, opening: Opening) -> Opened | None:
    """The conversation of this run of the step: a new one, or the one that an earlier attempt
    left. None if the attempt is lost."""
    if not transitions.hold(claim):
        return None
    job = Job.objects.only("generation").get(id=claim.job_id)
    said = {"system": opening.system, "prompt": opening.prompt}
    row, _ = Conversation.objects.get_or_create(
        step_id=claim.step_id,
        generation=job.generation,
        number=claim.number,
        defaults={
            "job_id": claim.job_id,
            "workspace": claim.workspace,
            "task_name": claim.task_name,
            "step_name": claim.step_name,
            "provider": opening.provider[:LONGEST_NAME],
            "model": opening.model[:LONGEST_NAME],
            "opening": conversations.storable_json(redact(said, opening.masks)),
            "opening_sealed": seal_with(said, opening.masks),
        },
    )
    Conversation.objects.filter(pk=row.pk).update(stints=F("stints") + 1, parked_fence=None)
    row.refresh_from_db()
    rows.began(claim.step_id, row.created_at)
    return Opened(conversations.read(row), tuple(tool.spec for tool in _tools(claim).values()))


def read(conversation_id: int) -> Dialogue:
    """The conversation as its rows have it now."""
    return conversations.read(Conversation.objects.get(pk=conversation_id))


@retried
def ask(
    claim: Claim, conversation_id: int, seq: int, note: str, *, is_last: bool, model: str
) -> bool:
    """Note that the model is asked; before it is."""
    if not transitions.hold(claim):
        return False
    row, is_new = Turn.objects.get_or_create(
        conversation_id=conversation_id, seq=seq, defaults={"note": note, "is_last": is_last}
    )
    if not is_new:
        Turn.objects.filter(pk=row.pk, answered_at=None).update(
            asked=F("asked") + 1, asked_at=Now()
        )
    if model:
        Conversation.objects.filter(pk=conversation_id, model="").update(model=model[:LONGEST_NAME])
    return True


@retried
def answered(
    claim: Claim, conversation_id: int, seq: int, answer: Answer, masks: tuple[str, ...]
) -> bool:
    """Store an answer and the calls that it wants; before it is used."""
    if not transitions.hold(claim):
        return False
    usage = answer.usage
    found = Turn.objects.filter(conversation_id=conversation_id, seq=seq, answered_at=None)
    moved = found.update(
        answered_at=Now(),
        answer=conversations.storable_json(conversations.shown(answer, masks)),
        answer_sealed=conversations.seal_answer(answer, masks),
        finish=answer.finish,
        tokens_in=usage.tokens_in,
        tokens_out=usage.tokens_out,
        cached=usage.cached,
        cost=usage.cost,
        latency_s=answer.latency_s,
    )
    if moved and not answer.has_output:
        Call.objects.bulk_create(_calls(conversation_id, seq, answer, masks))
    _progress(conversation_id)
    if moved:
        spending.note(conversation_id, usage)
    return True


def _calls(conversation_id: int, seq: int, answer: Answer, masks: tuple[str, ...]) -> list[Call]:
    made = []
    for index, wanted in enumerate(answer.calls):
        seen, sealed = redact_and_seal(wanted.arguments, masks)
        made.append(
            Call(
                conversation_id=conversation_id,
                seq=seq,
                index=index,
                call_id=storable(wanted.id)[:LONGEST_NAME],
                tool=storable(wanted.tool)[:LONGEST_NAME],
                arguments=conversations.storable_json(seen),
                arguments_sealed=sealed,
                digest=conversations.digest_of(wanted.tool, wanted.arguments),
            )
        )
    return made


@retried
def act(
    claim: Claim, dialogue: Dialogue, seq: int, limits: Limits, given: Mapping[str, Any]
) -> bool:
    """Make the calls that turn `seq` wants: each is begun, or refused with words for the model. The
    first one that people must see waits for them, and those after it, too. `given`: the step's
    input."""
    advance = advancing(claim.job_id, blueprints.load)
    if advance is None or not transitions.hold(claim):
        return False
    row = Conversation.objects.get(pk=dialogue.id)
    tools = _tools(claim)
    left = calls_left(limits, dialogue.spent)
    arguments = {call.index: call.arguments for call in dialogue.turns[-1].calls}
    wanted = Call.objects.filter(conversation=row, seq=seq, status__in=TO_MAKE)
    for call in wanted.order_by("index"):
        if left is not None and left <= 0:
            _refuse(call, "The limit of tool calls is reached. Answer without further calls.")
            continue
        try:
            tool, said = _tool(call.tool, tools), arguments.get(call.index)
            children.check(tool, said)
            if call.status == CallStatus.WANTED and asking.must_ask(tool, said, given):
                transitions.move(call.pk, CallEventKind.ASKED)
                break
            children.start(advance.job, row, tool, call, said)
        except AuthorError as error:
            _refuse(call, str(redact(str(error), contexts.masks_of(advance.job))))
            continue
        left = None if left is None else left - 1
    _progress(dialogue.id)
    return True


def _tool(name: str, tools: Mapping[str, Tool]) -> Tool:
    if name not in tools:
        there = f"There are: {', '.join(tools)}" if tools else "There are no tools"
        raise AuthorError(f"There is no tool '{name[:80]}'. {there}.")
    return tools[name]


def _refuse(call: Call, why: str) -> None:
    transitions.move(call.pk, CallEventKind.REFUSED, result=f"The call was not made: {why}")


def park(claim: Claim, conversation_id: int, left_s: float | None) -> Parked:
    return parking.park(claim, conversation_id, left_s)


def spent_today() -> Spent:
    """What all conversations of the last 24 hours have used together."""
    found = Turn.objects.filter(answered_at__gt=Now() - DAY).aggregate(
        all=Count("pk"),
        tokens=Sum(F("tokens_in") + F("tokens_out")),
        total=Sum("cost"),
        unpriced=Count("pk", filter=Q(cost=None)),
    )
    return Spent(
        turns=found["all"],
        tokens=found["tokens"] or 0,
        cost=float(found["total"] or 0),
        unpriced=found["unpriced"],
    )


def _tools(claim: Claim) -> dict[str, Tool]:
    action = blueprints.load(claim.blueprint_id).nodes[claim.base].action
    return tools_of(action, claim.revision_id)


def _progress(conversation_id: int) -> None:
    """A new row: the process that died here did not die at the same point for ever."""
    Conversation.objects.filter(pk=conversation_id).update(stints=1)
