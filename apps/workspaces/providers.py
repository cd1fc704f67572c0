"""Warnings about providers of language models that this installation does not have, and about MCP
servers that it does not let start."""

from __future__ import annotations

from collections.abc import Iterable

from engine.agents.servers import McpRules, refusal, server_of
from engine.plain import shorten
from engine.spec.model import Action, Problem
from engine.spec.model import Workspace as Definition
from engine.spec.problems import did_you_mean, warning


def unknown_providers(definition: Definition, known: Iterable[str]) -> list[Problem]:
    """One warning per action: the settings may follow the workspace, so nothing is refused."""
    names = sorted(known)
    there = f"expected one of {', '.join(names)}" if names else "`agents.providers` names none"
    return [
        warning(
            action.place,
            "unknown-provider",
            f"Agent '{shorten(_shown(name))}' names the provider"
            f" '{shorten(action.provider)}', which this installation does not have"
            f"{did_you_mean(action.provider, names)}; {there}",
        )
        for name, action in definition.actions.items()
        if action.type == "agent" and action.provider and action.provider not in names
    ]


def refused_servers(definition: Definition, rules: McpRules) -> list[Problem]:
    """One warning per server that an agent uses, at the first such agent."""
    users: dict[str, tuple[str, Action]] = {}
    for name, action in definition.actions.items():
        for tool in action.tools:
            if "mcp" in tool:
                users.setdefault(str(tool["mcp"]), (name, action))
    found = []
    for server, (name, action) in users.items():
        given = definition.mcp_servers.get(server)
        why = refusal(server_of(server, given, {}), rules) if given is not None else None
        if why is not None:
            message = (
                f"Agent '{shorten(_shown(name))}' uses the MCP server '{shorten(server)}', which"
                f" {why}: no job with it starts"
            )
            found.append(warning(action.place, "mcp-refused", message))
    return found


def _shown(action: str) -> str:
    return action.removeprefix("_inline:").replace(":", "/")
