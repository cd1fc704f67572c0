"""Rules about actions of type `agent`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from engine.agents.limits import MOST_TURNS
from engine.agents.tools import LONGEST_TOOL_NAME, OUTPUT_NAME, TASK_TOOL, name_of, name_of_remote
from engine.plain import shorten
from engine.spec.checks_templates import is_template, not_rendered
from engine.spec.draft import Draft
from engine.spec.model import Action, Problem
from engine.spec.problems import did_you_mean, error, warning

_MOST_ASK_SECONDS = 30 * 86_400  # people take longer than programs


def _agents(draft: Draft) -> Iterator[tuple[str, str, Action]]:
    for name, subject, action in draft.actions():
        if action.type == "agent":
            yield name, subject, action


def check_agent_limits(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in _agents(draft):
        if action.temperature is not None and not 0.0 <= action.temperature <= 2.0:
            message = f"{subject} temperature must be between 0.0 and 2.0, got {action.temperature}"
            yield error(draft.in_action(name, "temperature"), "out-of-range", message)
        if action.max_turns is not None and not 1 <= action.max_turns <= MOST_TURNS:
            message = (
                f"{subject} max_turns must be between 1 and {MOST_TURNS}, got {action.max_turns}"
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
                if key == "task" and tool.get("idempotent"):
                    message = (
                        f"{subject} tool {index + 1} has 'idempotent', which is for MCP servers: a"
                        " task is never started twice"
                    )
                    yield warning(draft.in_action(name, "tools", index), "tools", message)
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


def check_only(draft: Draft) -> Iterator[Problem]:
    """`only` chooses among a server's tools."""
    for name, subject, action in _agents(draft):
        servers = Counter(str(tool["mcp"]) for tool in action.tools if "mcp" in tool)
        chosen = {tool.get("mcp") for tool in action.tools if "only" in tool}
        for index, tool in enumerate(action.tools):
            place, what = draft.in_action(name, "tools", index), f"{subject} tool {index + 1}"
            if "task" in tool and "only" in tool:
                yield error(place, "tools", f"{what} has 'only', which is for MCP servers")
            elif "only" in tool and not all(one.strip() for one in tool["only"] or [""]):
                yield error(place, "tools", f"{what} 'only' must name at least one tool")
            elif "only" not in tool and servers[str(tool.get("mcp"))] > 1 and tool["mcp"] in chosen:
                message = (
                    f"{what}: MCP server '{shorten(tool['mcp'])}' has several entries; each needs"
                    " 'only', the tools that it means"
                )
                yield error(place, "tools", message)


def check_tool_names(draft: Draft) -> Iterator[Problem]:
    """A provider takes names of at most 64 characters, each once."""
    for name, subject, action in _agents(draft):
        known: dict[str, tuple[int, str]] = {}
        for index, tool in enumerate(action.tools):
            place = draft.in_action(name, "tools", index)
            for called, told in _names_of(tool):
                other = known.setdefault(called, (index, told))
                if other != (index, told):
                    message = f"{subject} {_both((index, told), other, called)}"
                    yield error(place, "tools", message)
                if "task" in tool and len(called) > LONGEST_TOOL_NAME:
                    message = (
                        f"{subject} tool {index + 1}: the task's name is too long for a tool, which"
                        f" may have {LONGEST_TOOL_NAME - len(TASK_TOOL)} characters"
                    )
                    yield error(place, "tools", message)


def _names_of(tool: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each name for the model, and what it stands for. A server may have several entries if each
    says which of its tools it means."""
    told = str(tool.get("task") or tool.get("mcp") or "").strip()
    if not told:
        return  # reported above
    if "only" not in tool:
        yield name_of(tool), told
    for one in dict.fromkeys(tool.get("only", ())):
        yield name_of_remote(told, one), one


def _both(this: tuple[int, str], other: tuple[int, str], called: str) -> str:
    if this[1] == other[1]:
        return f"tools {other[0] + 1} and {this[0] + 1} are the same"
    where = f"tool {this[0] + 1}" if this[0] == other[0] else "tools"
    return (
        f"{where}: '{shorten(other[1])}' and '{shorten(this[1])}' have the same name for the model,"
        f" '{called}'; leave one out, or rename it"
    )


def check_agent_output(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in _agents(draft):
        for key in action.output:
            if not OUTPUT_NAME.fullmatch(key):
                message = (
                    f"{subject} output field '{shorten(key)}': no provider takes this name; use at"
                    " most 64 letters, digits and . _ -"
                )
                yield error(draft.in_action(name, "output", key), "output-name", message)


def check_people(draft: Draft) -> Iterator[Problem]:
    """Who is never asked need not be named."""
    for name, subject, action in _agents(draft):
        asks = action.interactive or any(
            tool.get("approval", "never") != "never" for tool in action.tools
        )
        for key in ("approvers", "reminders", "escalation", "ask_timeout"):
            if not asks and getattr(action, key):
                message = (
                    f"{subject} has '{key}', but asks nobody: it is not interactive, and no tool"
                    " needs approval"
                )
                yield warning(draft.in_action(name, key), "tools", message)
        if action.ask_timeout and action.ask_timeout.seconds > _MOST_ASK_SECONDS:
            message = f"{subject} ask_timeout exceeds maximum of {_MOST_ASK_SECONDS}s (30d)"
            yield error(draft.in_action(name, "ask_timeout"), "timeout", message)


def check_agent_turns(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in _agents(draft):
        if action.max_turns is not None and not action.tools and not action.interactive:
            message = f"{subject} has 'max_turns' but no 'tools' — max_turns has no effect"
            yield warning(draft.in_action(name, "max_turns"), "tools", message)
        if action.interactive and not action.tools:
            message = f"{subject} is interactive but has no 'tools' — it can only ask questions"
            yield warning(draft.in_action(name, "interactive"), "tools", message)
        if action.interactive and action.tools and action.max_turns is None:
            message = f"{subject} is interactive with tools but has no 'max_turns' — 25 is used"
            yield warning(draft.in_action(name, "interactive"), "tools", message)


def check_names(draft: Draft) -> Iterator[Problem]:
    for name, subject, action in _agents(draft):
        for key in ("provider", "model"):
            text = getattr(action, key)
            if text is not None and is_template(text):
                place = draft.in_action(name, key)
                yield not_rendered(f"{subject} {key}", text, place, "write the name")


CHECKS = (
    check_agent_limits,
    check_agent_tools,
    check_only,
    check_tool_names,
    check_agent_output,
    check_people,
    check_agent_turns,
    check_names,
)
