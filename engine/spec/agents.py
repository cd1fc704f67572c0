"""Reads what only actions of type `agent` have: tools and limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.agents.limits import AT_LIMIT, MOST_TURNS, Limits, TaskLimits
from engine.spec.entry import Entry

TOOL_FIELDS = ("task", "mcp", "only", "approval", "idempotent")
TASK_LIMITS = ("turns", "tokens", "cost", "tool_calls")
DAILY_LIMITS = ("tokens", "cost")
_APPROVALS = ("always", "never")


def read_tools(entry: Entry) -> tuple[Mapping[str, Any], ...]:
    found: list[Mapping[str, Any]] = []
    for index, node in enumerate(entry.items("tools")):
        tool = Entry(node, f"{entry.subject} tool {index + 1}", entry.problems)
        tool.refuse_unknown(TOOL_FIELDS)
        given: dict[str, Any] = {key: tool.text(key) for key in ("task", "mcp") if tool.get(key)}
        if isinstance(node.value, dict) and len(given) != 1:
            message = f"{tool.subject} must have exactly one of 'task' and 'mcp'"
            entry.problems.error(node.place, "tools", message)
            given = {}
        approval = _read_approval(tool)
        if approval is not None:
            given["approval"] = approval
        if tool.flag("idempotent"):
            given["idempotent"] = True
        if tool.get("only") is not None:
            given["only"] = list(tool.texts("only"))
        found.append({key: value for key, value in given.items() if value is not None})
    return tuple(found)


def _read_approval(tool: Entry) -> str | Mapping[str, str] | None:
    node = tool.get("approval")
    if node is None or not isinstance(node.value, dict):
        return tool.word("approval", _APPROVALS, "tools")
    inner = Entry(node, f"{tool.subject} approval", tool.problems)
    inner.refuse_unknown(("when",))
    inner.require("when", tool.at("approval"))
    when = inner.text("when")
    return {"when": when} if when is not None else None


def read_task_limits(entry: Entry) -> TaskLimits | None:
    node = entry.mapping("limits")
    if node is None:
        return None
    return read_shared_limits(Entry(node, f"{entry.subject} limits", entry.problems))


def read_shared_limits(inner: Entry) -> TaskLimits:
    """Of all agents of a task, or of a workspace."""
    inner.refuse_unknown((*TASK_LIMITS, "daily"))
    day = inner.mapping("daily")
    daily = Limits()
    if day is not None:
        within = Entry(day, f"{inner.subject} daily", inner.problems)
        within.refuse_unknown(DAILY_LIMITS)
        daily = Limits(tokens=within.whole("tokens", 1), cost=_read_cost(within))
    return TaskLimits(
        Limits(
            turns=inner.whole("turns", 1),
            tokens=inner.whole("tokens", 1),
            cost=_read_cost(inner),
            tool_calls=inner.whole("tool_calls", 0),
        ),
        daily,
    )


def _read_cost(entry: Entry) -> float | None:
    cost = entry.number("cost")
    if cost is not None and cost < 0:
        entry.complain("cost", f"must be 0 or more, not {cost:g}", "out-of-range")
    return cost


def read_limits(entry: Entry) -> Limits | None:
    node = entry.mapping("limits")
    if node is None:
        return None
    inner = Entry(node, f"{entry.subject} limits", entry.problems)
    inner.refuse_unknown(("turns", "tokens", "cost", "tool_calls", "time", "at_limit"))
    time = inner.duration("time")
    return Limits(
        turns=inner.whole("turns", 1, MOST_TURNS),
        tokens=inner.whole("tokens", 1),
        cost=_read_cost(inner),
        tool_calls=inner.whole("tool_calls", 0),
        time=time.seconds if time else None,
        at_limit=inner.word("at_limit", AT_LIMIT, "limits"),  # type: ignore[arg-type]
    )
