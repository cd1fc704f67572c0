"""Tera's tests (`x is odd`) and functions (`range(end=3)`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import Any

import re2

from engine.errors import TemplateError
from engine.templating.budget import LimitReached
from engine.templating.calls import Call
from engine.templating.values import contains, is_array, is_number, kind

MAX_PATTERN = 1_000


def _number(call: Call, value: Any) -> float:
    if not is_number(value):
        raise TemplateError(f"{call.what} works on a number, not on {kind(value)}")
    try:
        return float(value)
    except OverflowError:
        raise TemplateError(f"{call.what}: the number is too large") from None


def _needle(call: Call, wanted: Any) -> str:
    if not isinstance(wanted, str):
        raise TemplateError(f"{call.what} needs a string in its parentheses, not {kind(wanted)}")
    return wanted


def is_odd(call: Call, value: Any) -> bool:
    return math.fmod(_number(call, value), 2.0) != 0.0


def is_even(call: Call, value: Any) -> bool:
    return not is_odd(call, value)


def is_string(call: Call, value: Any) -> bool:
    return isinstance(value, str)


def is_a_number(call: Call, value: Any) -> bool:
    return is_number(value)


def is_divisible(call: Call, value: Any, wanted: Any) -> bool:
    number, divisor = _number(call, value), _number(call, wanted)
    return divisor != 0 and math.fmod(number, divisor) == 0.0


def is_iterable(call: Call, value: Any) -> bool:
    return is_array(value) or isinstance(value, Mapping)


def is_object(call: Call, value: Any) -> bool:
    return isinstance(value, Mapping)


def starts_with(call: Call, value: Any, wanted: Any) -> bool:
    return call.text(value).startswith(_needle(call, wanted))


def ends_with(call: Call, value: Any, wanted: Any) -> bool:
    return call.text(value).endswith(_needle(call, wanted))


def holds(call: Call, value: Any, wanted: Any) -> bool:
    return contains(call.budget, value, wanted)


def matches(call: Call, value: Any, wanted: Any) -> bool:
    """RE2, as Tera's: time grows with the text, never with the cleverness of the pattern."""
    text, pattern = call.text(value), _needle(call, wanted)
    if len(pattern) > MAX_PATTERN:
        raise LimitReached(f"{call.what}: the pattern is longer than {MAX_PATTERN} characters")
    call.budget.spend(500 + len(text))
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options).search(text) is not None
    except (re2.error, ValueError):
        raise TemplateError(
            f"{call.what}: the pattern is not a regular expression that RE2 understands"
        ) from None


# name -> (function, number of arguments); `defined` and `undefined` belong to the runtime
TESTS: dict[str, tuple[Callable[..., bool], int]] = {
    "odd": (is_odd, 0),
    "even": (is_even, 0),
    "string": (is_string, 0),
    "number": (is_a_number, 0),
    "divisibleby": (is_divisible, 1),
    "iterable": (is_iterable, 0),
    "object": (is_object, 0),
    "starting_with": (starts_with, 1),
    "ending_with": (ends_with, 1),
    "containing": (holds, 1),
    "matching": (matches, 1),
}


def range_(call: Call) -> list[int]:
    end = call.whole_argument("end", low=0)
    start = call.whole_argument("start", 0, low=0)
    step = call.whole_argument("step_by", 1, low=1)
    if start > end:
        raise TemplateError(f"{call.what}: 'start' is greater than 'end'")
    numbers = range(start, end, step)
    if len(numbers) > call.budget.limits.loop_rounds:
        raise LimitReached(f"{call.what} makes more than {call.budget.limits.loop_rounds} numbers")
    call.budget.spend(len(numbers))
    return list(numbers)


def now(call: Call) -> str | int:
    """The time that the platform gives for this rendering, in its own zone unless `utc=true`."""
    if call.now is None:
        raise TemplateError(
            "now() is not available here, for the text may be rendered more than once"
        )
    at = call.now if call.now.tzinfo else call.now.replace(tzinfo=UTC)
    if call.flag_argument("utc"):
        at = at.astimezone(UTC)
    return int(at.timestamp()) if call.flag_argument("timestamp") else at.isoformat()


def throw(call: Call) -> None:
    raise TemplateError(call.text_argument("message")[:1_000])


FUNCTIONS: dict[str, Callable[[Call], Any]] = {"range": range_, "now": now, "throw": throw}
REFUSED_FUNCTIONS = {
    "get_env": (
        "get_env() is switched off: templates cannot read the server's environment; use an input or"
        " a secret"
    ),
    "get_random": (
        "get_random() is switched off: a template gives the same text each time; draw the number in"
        " a step"
    ),
    "super": "super() is switched off: a template stands alone, without blocks and inheritance",
}
