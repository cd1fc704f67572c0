"""Asking people: the approval of a tool call, or a question of the model. All under the lock of the
job.

What a model says is shown as plain text: it is never rendered, neither as a template nor as
Markdown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from apps.agents import conversations
from apps.agents.models import Call, Conversation
from apps.agents.toolbox import Tool, tools_of
from apps.jobs import ports
from apps.jobs.database.sql import storable
from apps.jobs.flow import abroad, contexts
from apps.jobs.flow.advance import Advance
from apps.jobs.flow.contexts import redact
from apps.jobs.ports import Asking
from engine import templating
from engine.agents.tools import ASK_USER
from engine.errors import TemplateError
from engine.spec.model import InputField

LONGEST_QUESTION = 4_000
LONGEST_SUMMARY = 240
# What would be obeyed instead of shown: control characters, and those that turn the direction of
# what follows.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
ANSWER = {"answer": InputField("text", "Your answer", required=True)}


def must_ask(tool: Tool, arguments: Any, given: Mapping[str, Any]) -> bool:
    """Whether people must see this call first. A condition that fails asks them."""
    if tool.spec.name == ASK_USER:
        return True
    rule = tool.given.get("approval", "never")
    if not isinstance(rule, Mapping):
        return bool(rule == "always")
    context = {"call": {"tool": tool.spec.name, "arguments": arguments}, "input": given}
    try:
        return templating.is_true(rule["when"], context)
    except TemplateError:
        return True


def ask(advance: Advance, row: Conversation, base: str, fence: int, call: Call) -> int:
    """Suspend the step until people have decided about this call; returns its new fence."""
    job, node = advance.job, advance.plan.nodes[base]
    masks = contexts.masks_of(job, abroad.masks_of(node))
    arguments = conversations.arguments_of(call)
    tool = tools_of(node.action, node.revision_of_action(job.revision_id), row.offers).get(
        call.tool
    )
    about, summary, message = _told(call, redact(arguments, masks))
    fields = ANSWER if call.tool == ASK_USER else _form(tool, arguments)
    return ports.ask(
        Asking(
            job,
            advance.plan,
            node,
            row.step_id,
            row.step_name,
            fence,
            storable(message),
            {name: _hidden(field, masks) for name, field in fields.items()},
            node.action.ask_timeout,
            about,
            _line(summary),
        )
    )


def ask_for_more(advance: Advance, row: Conversation, base: str, fence: int, why: str) -> int:
    """Suspend the step until people have decided about its limits; returns its new fence."""
    node = advance.plan.nodes[base]
    message = (
        f"The agent has reached a limit: {why}.\n\nApprove to allow as much again of all limits of"
        " this step, or refuse: the step then fails."
    )
    return ports.ask(
        Asking(
            advance.job,
            advance.plan,
            node,
            row.step_id,
            row.step_name,
            fence,
            message,
            {},
            node.action.ask_timeout,
            "limit",
            _line(why),
        )
    )


def _told(call: Call, shown: Mapping[str, Any]) -> tuple[str, str, str]:
    """What it is about, on one line, and in full. `shown`: the arguments without secrets."""
    if call.tool == ASK_USER:
        question = str(shown.get("question", ""))[:LONGEST_QUESTION]
        return "question", question, f"The agent asks:\n\n{_plain(question)}"
    short, long = (
        json.dumps(shown, indent=indent, ensure_ascii=False, default=str) for indent in (None, 2)
    )
    message = (
        f"{_why(call)}:\n\n{_plain(long)}\n\n"
        "You may change the arguments; what you leave empty stays as it is."
    )
    return "call", f"{call.tool} {short}", message


def _why(call: Call) -> str:
    if call.begun_at is None:
        return f"The agent wants to call the tool `{call.tool}`"
    return (
        f"The agent called the tool `{call.tool}`, and its process ended before the result was"
        " stored: the call may have had its effect. Look, then approve to make it again, or refuse"
        " with words that tell the agent how it ended. It was called with"
    )


def _plain(text: str) -> str:
    """As an indented block, in which Markdown means nothing."""
    return "\n".join(f"    {line}" for line in seen(text).splitlines())


def _line(text: str) -> str:
    """On one line, cut."""
    line = " ".join(seen(storable(text)).split())
    return line if len(line) <= LONGEST_SUMMARY else f"{line[:LONGEST_SUMMARY]} …"


def seen(text: str) -> str:
    """The text with characters that nobody would see written out as in JSON."""
    plain = text.replace("\r\n", "\n")
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", plain)


def _form(tool: Tool | None, arguments: Mapping[str, Any]) -> dict[str, InputField]:
    """The arguments as optional fields that begin with what the model chose. `has_default` is off:
    a default would be rendered as a template."""
    return {
        name: replace(declared, required=False, default=arguments.get(name), has_default=False)
        for name, declared in (tool.fields.items() if tool is not None else ())
    }


def _hidden(field: InputField, masks: tuple[str, ...]) -> InputField:
    return replace(field, default=conversations.storable_json(redact(field.default, masks)))
