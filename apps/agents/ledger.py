"""The door for the process that speaks to models. Every function that writes is one transaction and
refuses if the attempt is no longer the caller's; every row is written before what it announces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.db.models import F
from django.db.models.functions import Now

from apps.agents import acting, children, conversations, parking, spending, transitions
from apps.agents.acting import Acted as Acted
from apps.agents.acting import Errand as Errand
from apps.agents.budgets import refusal as refusal
from apps.agents.models import Call, Conversation, Turn
from apps.agents.parking import Parked as Parked
from apps.agents.spending import spent_today as spent_today
from apps.agents.toolbox import tools_of
from apps.jobs.database.sql import retried, storable
from apps.jobs.flow import blueprints
from apps.jobs.flow.advance import advancing
from apps.jobs.flow.contexts import redact, redact_and_seal, seal_with
from apps.jobs.models import Job
from apps.jobs.transitions import rows
from apps.jobs.values import Claim
from apps.workspaces.revisions import definition_of, server_credentials
from engine.agents.dialogue import Answer, Dialogue, ToolSpec
from engine.agents.limits import Limits
from engine.agents.offers import RemoteTool, offered
from engine.agents.servers import Server, server_of
from engine.errors import AuthorError
from engine.lifecycle import CallEventKind
from engine.spec.model import Action

LONGEST_NAME = 200


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
    servers: Mapping[str, Server] = field(repr=False, default_factory=dict)
    must_list: bool = False  # what the servers offer is not stored yet: see `offer`


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
    servers = _servers(claim)
    must_list = bool(servers) and row.offers is None
    return Opened(conversations.read(row), _specs(claim, row), servers, must_list)


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
def offer(
    claim: Claim,
    conversation_id: int,
    listed: Mapping[str, Sequence[RemoteTool]],
    masks: tuple[str, ...],
) -> tuple[ToolSpec, ...] | None:
    """Store the tools that the servers list, once: a server that describes them differently later
    changes nothing. All tools of the step; None if the attempt is lost. Raises AuthorError."""
    if not transitions.hold(claim):
        return None
    row = Conversation.objects.get(pk=conversation_id)
    if row.offers is None:
        found = redact(offered(_action(claim).tools, listed), masks)
        row.offers = conversations.storable_json(found)
        row.save(update_fields=["offers"])
    return _specs(claim, row)


@retried
def act(
    claim: Claim, dialogue: Dialogue, seq: int, limits: Limits, given: Mapping[str, Any]
) -> Acted | None:
    """Make the calls that turn `seq` wants; see `acting.act`. The caller makes the errand, and
    stores its result with `made`. None if the attempt is lost."""
    advance = advancing(claim.job_id, blueprints.load)
    if advance is None or not transitions.hold(claim):
        return None
    acted = acting.act(advance, claim, dialogue.id, seq, limits, dialogue.spent, given)
    if not dialogue.has_lost_calls:
        _progress(dialogue.id)  # a call that ends its process each time is poison
    return acted


@retried
def made(
    claim: Claim, conversation_id: int, call: int, result: str, masks: tuple[str, ...], *, ok: bool
) -> bool:
    """Store the result of an errand; before it is used."""
    if not transitions.hold(claim):
        return False
    event = CallEventKind.DONE if ok else CallEventKind.FAILED
    transitions.move(call, event, result=children.cut(str(redact(result, masks))))
    _progress(conversation_id)
    return True


def park(claim: Claim, conversation_id: int, left_s: float | None) -> Parked:
    return parking.park(claim, conversation_id, left_s)


def ask_for_more(claim: Claim, conversation_id: int, why: str) -> Parked:
    return parking.ask_for_more(claim, conversation_id, why)


def _action(claim: Claim) -> Action:
    return blueprints.load(claim.blueprint_id).nodes[claim.base].action


def _revision(claim: Claim) -> int:
    """Of the workspace that the action belongs to."""
    node = blueprints.load(claim.blueprint_id).nodes[claim.base]
    return node.revision_of_action(claim.revision_id)


def _specs(claim: Claim, row: Conversation) -> tuple[ToolSpec, ...]:
    found = tools_of(_action(claim), _revision(claim), row.offers)
    return tuple(tool.spec for tool in found.values())


def _servers(claim: Claim) -> dict[str, Server]:
    """The MCP servers of the step, with their credentials. Raises AuthorError, SecretError."""
    names = dict.fromkeys(str(tool["mcp"]) for tool in _action(claim).tools if "mcp" in tool)
    known = definition_of(_revision(claim)).mcp_servers if names else {}
    for name in names:
        if name not in known:
            raise AuthorError(f"The workspace has no MCP server '{name}'")
    return {
        name: server_of(name, known[name], server_credentials(_revision(claim), name))
        for name in names
    }


def _progress(conversation_id: int) -> None:
    """A new row: the process that died here did not die at the same point for ever."""
    Conversation.objects.filter(pk=conversation_id).update(stints=1)
