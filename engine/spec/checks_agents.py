"""Rules about agent actions and MCP servers' use by them."""

from __future__ import annotations

from collections.abc import Iterator

from engine.spec.draft import Draft
from engine.spec.model import Action, Problem
from engine.spec.problems import did_you_mean, error, shorten, warning

_MOST_TURNS = 100


def _agents(draft: Draft) -> Iterator[tuple[str, str, Action]]:
    for name, subject, action in draft.actions():
        if action.type == "agent":
            yield name, subject, action


def check_agent_fields(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in _agents(draft):
        for key in ("provider", "prompt"):
            if not draft.says(name, key):
                message = f"{subject} is type 'agent' but missing '{key}' field"
                yield error(action.place, "missing-field", message)
            elif getattr(action, key) is not None and not getattr(action, key).strip():
                yield error(
                    draft.in_action(name, key), "empty-field", f"{subject} has empty '{key}' field"
                )


def check_agent_limits(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in _agents(draft):
        if action.temperature is not None and not 0.0 <= action.temperature <= 2.0:
            message = f"{subject} temperature must be between 0.0 and 2.0, got {action.temperature}"
            yield error(draft.in_action(name, "temperature"), "out-of-range", message)
        if action.max_turns is not None and not 1 <= action.max_turns <= _MOST_TURNS:
            message = (
                f"{subject} max_turns must be between 1 and {_MOST_TURNS}, got {action.max_turns}"
            )
            yield error(draft.in_action(name, "max_turns"), "out-of-range", message)
        if action.max_tokens is not None and action.max_tokens < 1:
            message = f"{subject} max_tokens must be 1 or more, got {action.max_tokens}"
            yield error(draft.in_action(name, "max_tokens"), "out-of-range", message)


def check_agent_tools(draft: Draft) -> Iterator[Problem]:
    kinds = (("task", "task", "tasks"), ("mcp", "MCP server", "mcp_servers"))
    for name, subject, action in _agents(draft):
        for index, tool in enumerate(action.tools):
            for key, words, section in kinds:
                if key not in tool:
                    continue
                place = draft.in_action(name, "tools", index, key)
                if not tool[key].strip():
                    yield error(
                        place, "tools", f"{subject} has a tool with empty {words} reference"
                    )
                elif draft.is_complete and not draft.has(section, tool[key]):
                    hint = did_you_mean(tool[key], draft.sections[section])
                    message = (
                        f"{subject} has a tool with non-existent {words}"
                        f" '{shorten(tool[key])}'{hint}"
                    )
                    yield error(place, "tools", message)


def check_agent_turns(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in _agents(draft):
        if action.max_turns is not None and not action.tools:
            message = f"{subject} has 'max_turns' but no 'tools' — max_turns has no effect"
            yield warning(draft.in_action(name, "max_turns"), "tools", message)
        if action.interactive and not action.tools:
            message = f"{subject} is interactive but has no 'tools' — it can only ask questions"
            yield warning(draft.in_action(name, "interactive"), "tools", message)
        if action.interactive and action.tools and action.max_turns is None:
            message = f"{subject} is interactive with tools but has no 'max_turns' — 25 is used"
            yield warning(draft.in_action(name, "interactive"), "tools", message)


CHECKS = (check_agent_fields, check_agent_limits, check_agent_tools, check_agent_turns)
