"""The tools of an agent step: what the model may call, and what becomes of a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from apps.workspaces.snapshots import definition_of
from engine.agents.dialogue import ToolSpec
from engine.agents.schema import schema_of_inputs
from engine.agents.tools import ASK_USER, name_of
from engine.spec.model import Action, InputField

LONGEST_DESCRIPTION = 1000


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of this step. `task` is the name of the task that it starts."""

    spec: ToolSpec
    task: str
    given: Mapping[str, Any] = field(default_factory=dict)  # as the author wrote it
    fields: Mapping[str, InputField] = field(default_factory=dict)  # the arguments, declared


QUESTION = ToolSpec(
    ASK_USER,
    "Asks a person and returns the answer. It may take hours: ask only what you cannot find out.",
    {
        "type": "object",
        "properties": {"question": {"type": "string", "description": "One clear question"}},
        "required": ["question"],
    },
)


def tools_of(action: Action, revision_id: int) -> dict[str, Tool]:
    """By the name that the model uses. Tasks that the revision lacks are left out: `validate`
    reports them."""
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
    if action.interactive:
        found[ASK_USER] = Tool(QUESTION, "")
    return found
