"""What a conversation may spend, and whether it has."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Literal

MOST_TURNS = 100
TURNS = 25  # without `max_turns` and `limits.turns`
AT_LIMIT = ("fail", "ask", "finish")
AtLimit = Literal["fail", "ask", "finish"]


@dataclass(frozen=True, slots=True)
class Limits:
    """None means no limit. `cost` is in US dollars; `time` in seconds, without waits for people."""

    turns: int | None = None
    tokens: int | None = None
    cost: float | None = None
    tool_calls: int | None = None
    time: float | None = None
    at_limit: AtLimit | None = None  # None: fail


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """Of all conversations of a task: in one job, and in one day (in UTC)."""

    job: Limits = Limits()
    day: Limits = Limits()


@dataclass(frozen=True, slots=True)
class Spent:
    """`unpriced`: answers whose cost is not known."""

    turns: int = 0
    tokens: int = 0
    cost: float = 0.0
    tool_calls: int = 0
    time: float = 0.0
    unpriced: int = 0


NOTHING = Spent()


def of_action(limits: Limits, max_turns: int | None) -> Limits:
    """What its author allows: the smaller of the two numbers of turns, or the usual one."""
    given = [turns for turns in (limits.turns, max_turns) if turns is not None]
    return replace(limits, turns=min(given, default=TURNS))


def raised(limits: Limits, times: int) -> Limits:
    """After people have allowed as much again so many times."""
    names = [field.name for field in fields(Limits) if field.name != "at_limit"]
    known = {name: getattr(limits, name) for name in names}
    more = {name: value * (1 + times) for name, value in known.items() if value is not None}
    return replace(limits, **more)


def tightest(all_limits: Iterable[Limits]) -> Limits:
    """The smallest of each limit; `at_limit` of the first that says it."""
    known = list(all_limits)

    def smallest(name: str) -> float | int | None:
        given = [value for one in known if (value := getattr(one, name)) is not None]
        return min(given, default=None)

    names = [field.name for field in fields(Limits) if field.name != "at_limit"]
    told = next((one.at_limit for one in known if one.at_limit is not None), None)
    return Limits(**{name: smallest(name) for name in names}, at_limit=told)  # type: ignore[arg-type]


def reached(limits: Limits, spent: Spent) -> str | None:
    """Why no further model call may be made; None if one may."""
    if limits.turns is not None and spent.turns >= limits.turns:
        return f"{spent.turns} of {limits.turns} turns are used (limits.turns or max_turns)"
    if limits.tokens is not None and spent.tokens >= limits.tokens:
        return f"{spent.tokens:,} of {limits.tokens:,} tokens are used (limits.tokens)"
    if limits.cost is not None:
        if spent.unpriced:
            return (
                "limits.cost is set, but the price of the model is not known: set `price` of the"
                " provider"
            )
        if spent.cost >= limits.cost:
            return f"${spent.cost:.4f} of ${limits.cost:g} are spent (limits.cost)"
    if limits.time is not None and spent.time >= limits.time:
        return f"{spent.time:.0f} of {limits.time:g} seconds are used (limits.time)"
    return None


def calls_left(limits: Limits, spent: Spent) -> int | None:
    """How many tool calls may still be made; None: any number."""
    return None if limits.tool_calls is None else max(0, limits.tool_calls - spent.tool_calls)
