"""Asking people: the approval of a tool call, or a question of the model. All under the lock of the
job.

What a model says is shown as plain text: it is never rendered, neither as a template nor as
Markdown.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from apps.agents import conversations
from apps.agents.models import Call, Conversation
from apps.agents.toolbox import Tool, tools_of
from apps.jobs import ports
from apps.jobs.database.sql import storable
from apps.jobs.flow import contexts
from apps.jobs.flow.advance import Advance
from apps.jobs.flow.redaction import redact
from apps.jobs.ports import Asking
from engine import templating
from engine.agents.tools import ASK_USER
from engine.errors import TemplateError
from engine.spec.model import InputField

LONGEST_QUESTION = 4_000
ANSWER = {"answer": InputField("text", description="Your answer", required=True)}


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
    arguments = conversations.arguments_of(call)
    tool = tools_of(node.action, job.revision_id, row.offers).get(call.tool)
    if call.tool == ASK_USER:
        question = str(arguments.get("question", ""))[:LONGEST_QUESTION]
        message, fields = f"The agent asks:\n\n{_plain(question)}", ANSWER
    else:
        shown = json.dumps(arguments, indent=2, ensure_ascii=False, default=str)
        message = (
            f"{_why(call)}:\n\n{_plain(shown)}\n\n"
            "You may change the arguments; what you leave empty stays as it is."
        )
        fields = _form(tool, arguments)
    masks = contexts.masks_of(job)
    return ports.ask(
        Asking(
            job,
            advance.plan,
            node,
            row.step_id,
            row.step_name,
            fence,
            storable(str(redact(message, masks))),
            {name: _hidden(field, masks) for name, field in fields.items()},
            node.action.ask_timeout,
        )
    )


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
    return "\n".join(f"    {line}" for line in text.splitlines())


def _form(tool: Tool | None, arguments: Mapping[str, Any]) -> dict[str, InputField]:
    """The arguments as optional fields that begin with what the model chose. `has_default` is off:
    a default would be rendered as a template."""
    return {
        name: replace(declared, required=False, default=arguments.get(name), has_default=False)
        for name, declared in (tool.fields.items() if tool is not None else ())
    }


def _hidden(field: InputField, masks: tuple[str, ...]) -> InputField:
    return replace(field, default=conversations.storable_json(redact(field.default, masks)))
