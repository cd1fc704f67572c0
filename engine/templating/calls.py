"""Tera's tests (`x is odd`) and functions (`range(end=3)`), and how they and the filters get their
arguments: by name, checked, with a message for wrong ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import re2

from engine.errors import TemplateError
from engine.templating.operations import I64_MAX, I64_MIN, contains
from engine.templating.values import Budget, LimitReached, is_array, is_number, kind, path_parts

_REQUIRED: Any = object()
NO_NOW = "now() is not available here, for the text may be rendered more than once"
MAX_PATTERN = 1_000
MAX_PATH = 1_000
MAX_PATH_PARTS = 20


@dataclass(frozen=True, slots=True)
class Call:
    """One use of a filter, test or function."""

    what: str  # e.g. "filter 'join'"
    arguments: Mapping[str, Any]
    budget: Budget
    now: datetime | None = None

    def text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise TemplateError(f"{self.what} works on a string, not on {kind(value)}")
        self.budget.spend_text(len(value))
        return value

    def array(self, value: Any) -> list[Any]:
        if not is_array(value):
            raise TemplateError(f"{self.what} works on an array, not on {kind(value)}")
        self.budget.spend(1 + len(value))
        return list(value)

    def number(self, value: Any) -> float:
        if not is_number(value):
            raise TemplateError(f"{self.what} works on a number, not on {kind(value)}")
        return value  # type: ignore[no-any-return]  # int or float, by the check above

    def argument(self, name: str, default: Any = _REQUIRED) -> Any:
        value = self.arguments.get(name, default)
        if value is _REQUIRED:
            raise TemplateError(f"{self.what} needs the argument '{name}'")
        return value

    def text_argument(self, name: str, default: str = _REQUIRED) -> str:
        value = self.argument(name, default)
        if not isinstance(value, str):
            raise TemplateError(
                f"{self.what}: the argument '{name}' must be a string, not {kind(value)}"
            )
        return value

    def path_argument(self, name: str, default: str = _REQUIRED) -> tuple[str, ...]:
        """The parts of a dotted path such as `author.name`."""
        path = self.text_argument(name, default)
        parts = path_parts(path) if len(path) <= MAX_PATH else ()
        if len(path) > MAX_PATH or len(parts) > MAX_PATH_PARTS:
            raise LimitReached(f"{self.what}: the argument '{name}' is too long a path")
        self.budget.spend(len(parts))
        return parts

    def whole_argument(
        self, name: str, default: int = _REQUIRED, low: int = I64_MIN, high: int = I64_MAX
    ) -> int:
        value = self.argument(name, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise TemplateError(
                f"{self.what}: the argument '{name}' must be a whole number, not {kind(value)}"
            )
        if not low <= value <= high:
            raise TemplateError(f"{self.what}: the argument '{name}' must be from {low} to {high}")
        return value

    def number_argument(self, name: str, default: float = _REQUIRED) -> float:
        value = self.argument(name, default)
        if not is_number(value):
            raise TemplateError(
                f"{self.what}: the argument '{name}' must be a number, not {kind(value)}"
            )
        return value  # type: ignore[no-any-return]  # int or float, by the check above

    def flag_argument(self, name: str, default: bool = False) -> bool:
        value = self.argument(name, default)
        if not isinstance(value, bool):
            raise TemplateError(
                f"{self.what}: the argument '{name}' must be true or false, not {kind(value)}"
            )
        return value


Filter = Callable[[Call, Any], Any]


def _number(call: Call, value: Any) -> float:
    if not is_number(value):
        raise TemplateError(f"{call.what} works on a number, not on {kind(value)}")
    try:
        return float(value)
    except OverflowError:
        raise TemplateError(f"{call.what}: the number is too large") from None


def _rest(call: Call, value: Any, divisor: Any) -> float:
    if isinstance(value, int) and isinstance(divisor, int) and not isinstance(value, bool):
        return abs(value) % abs(divisor)  # exact, beyond what a float holds
    return math.fmod(_number(call, value), _number(call, divisor))


def _needle(call: Call, wanted: Any) -> str:
    if not isinstance(wanted, str):
        raise TemplateError(f"{call.what} needs a string in its parentheses, not {kind(wanted)}")
    return wanted


def is_odd(call: Call, value: Any) -> bool:
    return _rest(call, value, 2) != 0


def is_even(call: Call, value: Any) -> bool:
    return not is_odd(call, value)


def is_string(call: Call, value: Any) -> bool:
    return isinstance(value, str)


def is_a_number(call: Call, value: Any) -> bool:
    return is_number(value)


def is_divisible(call: Call, value: Any, wanted: Any) -> bool:
    return _number(call, wanted) != 0 and _rest(call, value, wanted) == 0


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
    """RE2, like Tera: linear time for any pattern."""
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
    """The rendering's time, in its own zone unless `utc=true`."""
    if call.now is None:
        raise TemplateError(NO_NOW)
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
