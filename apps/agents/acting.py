"""The tool calls that an answer wants: each is begun, refused with words for the model, or put
before people. All under the lock of the job.

A task's tool is a child job, begun in the same transaction. A server's tool is an errand: it is
noted as begun, then the process makes the call and stores its result. One that is begun without a
result was lost with its process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.agents import asking, budgets, children, conversations, transitions
from apps.agents.models import Call, Conversation
from apps.agents.toolbox import Tool, tools_of
from apps.jobs.flow import abroad, contexts
from apps.jobs.flow.advance import Advance
from apps.jobs.flow.contexts import redact
from apps.jobs.values import Claim
from engine.agents.limits import Limits, Spent, calls_left
from engine.errors import AuthorError
from engine.lifecycle import OPEN_CALL, CallEventKind, CallStatus
from engine.spec.model import Action


@dataclass(frozen=True, slots=True)
class Errand:
    """A call of a server's tool that the caller makes now. `name` is the model's for the tool."""

    call: int
    name: str
    server: str
    tool: str
    arguments: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Acted:
    """`refusal`: why the step cannot go on. One errand at a time: those after it are begun when it
    is done, so that the death of a process leaves one call in doubt, not many."""

    errand: Errand | None = None
    refusal: str | None = None


def act(
    advance: Advance,
    claim: Claim,
    conversation_id: int,
    seq: int,
    limits: Limits,
    spent: Spent,
    given: Mapping[str, Any],
) -> Acted:
    """Begin the calls of turn `seq`, up to the first one that people must see. `given`: the step's
    input."""
    row = Conversation.objects.get(pk=conversation_id)
    node = advance.plan.nodes[claim.base]
    action = node.action
    tools = tools_of(action, node.revision_of_action(claim.revision_id), row.offers)
    both = (calls_left(limits, spent), budgets.tool_calls_left(claim))
    left = min((one for one in both if one is not None), default=None)
    open_calls = Call.objects.filter(conversation=row, seq=seq, status__in=OPEN_CALL)
    for call in open_calls.order_by("index"):
        if call.status == CallStatus.ASKED:
            break
        if call.status == CallStatus.BEGUN:
            if call.child_job_id is None:
                return _lost(call, tools, action)
            continue
        if left is not None and left <= 0:
            _refuse(call, "The limit of tool calls is reached. Answer without further calls.")
            continue
        try:
            tool, said = _tool(call.tool, tools), conversations.arguments_of(call)
            children.check(tool, said)
            if call.status == CallStatus.WANTED and asking.must_ask(tool, said, given):
                transitions.move(call.pk, CallEventKind.ASKED)
                break
            if tool.server:
                transitions.move(call.pk, CallEventKind.BEGUN)
                return Acted(_errand(call, tool, said))
            children.start(advance.job, row, tool, call, said)
        except AuthorError as error:
            _refuse(
                call, str(redact(str(error), contexts.masks_of(advance.job, abroad.masks_of(node))))
            )
            continue
        left = None if left is None else left - 1
    return Acted()


def _errand(call: Call, tool: Tool, arguments: Any) -> Errand:
    return Errand(call.pk, call.tool, tool.server, tool.remote, arguments)


def _lost(call: Call, tools: Mapping[str, Tool], action: Action) -> Acted:
    """Once more, if that does no harm; else people decide, or the step fails."""
    tool = tools.get(call.tool)
    if tool is not None and tool.given.get("idempotent"):
        return Acted(_errand(call, tool, conversations.arguments_of(call)))
    if action.interactive or (tool is not None and tool.asks_people):
        transitions.move(call.pk, CallEventKind.LOST)
        return Acted()
    return Acted(
        refusal=(
            f"The process for agents ended while the tool {call.tool} was called: whether the call"
            " had its effect is not known. It is not made again, as the tool is not marked"
            " `idempotent`, and nobody can be asked"
        )
    )


def _tool(name: str, tools: Mapping[str, Tool]) -> Tool:
    if name not in tools:
        there = f"There are: {', '.join(tools)}" if tools else "There are no tools"
        raise AuthorError(f"There is no tool '{name[:80]}'. {there}.")
    return tools[name]


def _refuse(call: Call, why: str) -> None:
    transitions.move(call.pk, CallEventKind.REFUSED, result=f"The call was not made: {why}")
