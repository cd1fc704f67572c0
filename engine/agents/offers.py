"""What the model is offered of the tools that MCP servers list."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.agents.tools import name_of_remote
from engine.errors import AuthorError
from engine.plain import shorten
from engine.spec.model import InputField
from engine.spec.problems import did_you_mean

MOST_TOOLS = 128  # of one server
LONGEST_DESCRIPTION = 1_000
LARGEST_SCHEMA = 20_000  # letters
MOST_FIELDS = 30  # of a form
_TYPES = {"string": "text", "integer": "integer", "number": "number", "boolean": "boolean"}


@dataclass(frozen=True, slots=True)
class RemoteTool:
    """A tool as its server lists it."""

    name: str
    description: str = field(repr=False, default="")
    schema: Mapping[str, Any] = field(repr=False, default_factory=dict)


def offered(
    tools: Sequence[Mapping[str, Any]], listed: Mapping[str, Sequence[RemoteTool]]
) -> list[dict[str, Any]]:
    """The tools that an action's entries choose, as JSON. Raises AuthorError if the servers lack
    one, or two have the same name."""
    found: dict[str, dict[str, Any]] = {}
    for entry, given in enumerate(tools):
        if "mcp" not in given:
            continue
        server = str(given["mcp"])
        there = {tool.name: tool for tool in listed[server]}
        for name in given.get("only", there):
            if name not in there:
                known = ", ".join(shorten(one, 40) for one in list(there)[:20]) or "none"
                raise AuthorError(
                    f"MCP server '{server}' has no tool '{shorten(name)}', which `only` names"
                    f"{did_you_mean(name, there)}; it has: {known}"
                )
            made = _entry(entry, server, there[name])
            other = found.setdefault(made["name"], made)
            if other is not made:
                raise AuthorError(
                    f"Two tools have the same name for the model, '{made['name']}':"
                    f" '{shorten(other['tool'])}' of MCP server '{other['server']}' and"
                    f" '{shorten(name)}' of '{server}'; choose with `only`"
                )
    return list(found.values())


def _entry(entry: int, server: str, tool: RemoteTool) -> dict[str, Any]:
    schema = dict(tool.schema)
    if len(json.dumps(schema, default=str)) > LARGEST_SCHEMA:
        raise AuthorError(
            f"MCP server '{server}': the schema of its tool '{shorten(tool.name)}' has more than"
            f" {LARGEST_SCHEMA:,} letters; leave the tool out with `only`"
        )
    if not isinstance(schema.get("properties"), dict):
        schema["properties"] = {}
    return {
        "entry": entry,
        "server": server,
        "tool": tool.name,
        "name": name_of_remote(server, tool.name),
        "description": tool.description[:LONGEST_DESCRIPTION],
        "schema": schema | {"type": "object"},
    }


def form_of(schema: Mapping[str, Any]) -> dict[str, InputField]:
    """The plain arguments as fields of a form. Other ones are shown, but cannot be changed."""
    found: dict[str, InputField] = {}
    for name, declared in schema.get("properties", {}).items():
        kind = _TYPES.get(str(declared.get("type"))) if isinstance(declared, dict) else None
        is_plain = name.isidentifier() and name.isascii() and len(name) <= 60
        if kind is not None and is_plain and len(found) < MOST_FIELDS:
            found[name] = InputField(kind, description=str(declared.get("description") or "")[:200])
    return found
