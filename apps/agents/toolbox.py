"""The tools of an agent step: what the model may call, and what becomes of a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from apps.workspaces.revisions import definition_of
from engine.agents.dialogue import ToolSpec
from engine.agents.offers import form_of
from engine.agents.schema import schema_of_inputs
from engine.agents.tools import ASK_USER, name_of
from engine.spec.model import Action, InputField

LONGEST_DESCRIPTION = 1000


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of this step: `task` is the name of the task that it starts; or `remote` is its name
    at an MCP server."""

    spec: ToolSpec
    task: str = ""
    given: Mapping[str, Any] = field(default_factory=dict)  # as the author wrote it
    fields: Mapping[str, InputField] = field(default_factory=dict)  # the arguments, declared
    server: str = ""
    remote: str = ""

    @property
    def asks_people(self) -> bool:
        """Whether its author wants people to see some of its calls."""
        return bool(self.given.get("approval", "never") != "never")


QUESTION = ToolSpec(
    ASK_USER,
    "Asks a person and returns the answer. It may take hours: ask only what you cannot find out.",
    {
        "type": "object",
        "properties": {"question": {"type": "string", "description": "One clear question"}},
        "required": ["question"],
    },
)


def tools_of(
    action: Action, revision_id: int, offers: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, Tool]:
    """By the name that the model uses. `offers`: of MCP servers, as the conversation stored them.
    Tasks that the revision lacks are left out: `validate` reports them."""
    tasks = definition_of(revision_id).tasks
    found = {}
    for given in action.tools:
        task = tasks.get(str(given.get("task", "")))
        if task is None:
            continue
        name = name_of(given)
        told = task.description or f"Runs the task '{given['task']}' and returns its output."
        spec = ToolSpec(name, told[:LONGEST_DESCRIPTION], schema_of_inputs(task.input))
        shown = {key: declared for key, declared in task.input.items() if not declared.secret}
        found[name] = Tool(spec, given["task"], given, shown)
    for offer in offers or ():
        spec = ToolSpec(offer["name"], offer["description"], offer["schema"])
        found[offer["name"]] = Tool(
            spec,
            given=action.tools[offer["entry"]],
            fields=form_of(offer["schema"]),
            server=offer["server"],
            remote=offer["tool"],
        )
    if action.interactive:
        found[ASK_USER] = Tool(QUESTION)
    return found
