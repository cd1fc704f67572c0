"""JSON values as Tera sees them: what is true, what is equal, how each prints, how numbers add up.

Messages name kinds, never values: a value may be a secret.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from engine.errors import TemplateError

I64_MIN, I64_MAX, U64_MAX = -(2**63), 2**63 - 1, 2**64 - 1
# What Unicode calls White_Space; `str.strip()` would also take the separators U+001C to U+001F.
WHITESPACE = (
    "\t\n\x0b\x0c\r \x85\xa0\u1680"
    + "".join(map(chr, range(0x2000, 0x200B)))
    + "\u2028\u2029\u202f\u205f\u3000"
)

_SCALARS = (str, bool, int, float, type(None))


def context_name(step_name: str) -> str:
    """The name of a step in templates: `say-hello` is `say_hello`."""
    return step_name.replace("-", "_")


@dataclass(frozen=True, slots=True)
class RenderLimits:
    """Limits of one rendering. A step is roughly a microsecond of work: one operation, 32
    characters, one item."""

    template_bytes: int = 65_536
    output_chars: int = 1_000_000
    value_chars: int = 1_000_000  # the longest text that an operation may make
    loop_rounds: int = 100_000  # total of all loops
    steps: int = 600_000
    # the price of all templates in one value, a second of work; one alone may cost more
    tags: int = 150_000


DEFAULT = RenderLimits()
TAG_PRICE = 20  # parsing cost of a tag, besides its letters
MAX_DEPTH = 100  # of nested lists and maps that are walked
MAX_NUMBER_BITS = 4_096  # of integers that are printed


class LimitReached(TemplateError):
    """A template exceeds its limits; unlike other failures, the template cannot catch this."""


class Budget:
    """The remaining limits. Every operation of the runtime draws on them."""

    __slots__ = ("limits", "output_left", "rounds_left", "steps_left", "tags_left")

    def __init__(self, limits: RenderLimits) -> None:
        self.limits = limits
        self.steps_left = limits.steps
        self.rounds_left = limits.loop_rounds
        self.output_left = limits.output_chars
        self.tags_left = limits.tags

    def begin(self, price: int) -> None:
        """Start the next text of a value: it has its own output limit and shares the value's work
        limit."""
        if self.tags_left < 0:
            raise LimitReached(
                "there are too many templates in one value; make the value in a script"
            )
        self.tags_left -= price
        self.output_left = self.limits.output_chars

    def spend(self, steps: int) -> None:
        self.steps_left -= steps
        if self.steps_left < 0:
            raise LimitReached("the template does too much work; do this in a script")

    def spend_text(self, chars: int) -> None:
        self.spend(1 + (chars >> 5))

    def start_round(self) -> None:
        self.rounds_left -= 1
        if self.rounds_left < 0:
            raise LimitReached(
                f"the template's loops run more than {self.limits.loop_rounds} times; do this in a"
                " script"
            )
        self.spend(4)

    def emit(self, chars: int) -> None:
        self.output_left -= chars
        if self.output_left < 0:
            raise LimitReached(
                f"the rendered text is longer than {self.limits.output_chars} characters"
            )

    def allow_text(self, chars: int) -> None:
        """Called before a text of this length is created."""
        if chars > self.limits.value_chars:
            raise LimitReached(
                f"the template makes a text longer than {self.limits.value_chars} characters"
            )
        self.spend_text(chars)


def kind(value: Any) -> str:
    """The JSON type with its article, for messages."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list() | tuple():
            return "an array"
        case Mapping():
            return "an object"
    return "not JSON"


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_array(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def is_true(value: Any) -> bool:
    """False: null, false, 0, NaN, empty text, array and object."""
    if isinstance(value, float):
        return value != 0.0 and not math.isnan(value)
    return bool(value)


def member(value: Any, key: str, absent: Any) -> Any:
    """`value.key` or `value[key]`: keys of objects and indices of arrays, never an attribute of a
    Python object."""
    if isinstance(value, Mapping):
        return value.get(key, absent)
    if (
        is_array(value)
        and key.isascii()
        and key.isdigit()
        and len(key) < 10
        and (key == "0" or key[0] != "0")
    ):
        index = int(key)
        return value[index] if index < len(value) else absent
    return absent


def pointed(value: Any, parts: Sequence[str], absent: Any) -> Any:
    """Follows keys and indices, see `path_parts`."""
    for part in parts:
        value = member(value, part, absent)
        if value is absent:
            return absent
    return value


def path_parts(path: str) -> tuple[str, ...]:
    """The parts of `a.b.0`; one that holds dots stands in double quotes."""
    parts: list[str] = []
    for number, piece in enumerate(path.split('"')):
        parts += [piece] if number % 2 else [part for part in piece.split(".") if part]
    return tuple(parts)


def plain(budget: Budget, value: Any, depth: int = 0) -> Any:
    """A deep copy of JSON types only, keys in their order."""
    if value is None or type(value) in _SCALARS:
        if type(value) is float and not math.isfinite(value):
            raise TemplateError("a value is infinite or not a number, which JSON cannot hold")
        return value
    budget.spend(2)
    if depth > MAX_DEPTH:
        raise LimitReached(f"a value is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        budget.spend(len(value) >> 2)
        return {str(key): plain(budget, item, depth + 1) for key, item in value.items()}
    if is_array(value):
        budget.spend(len(value) >> 2)
        return [plain(budget, item, depth + 1) for item in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    """The plain form of a subclass of a JSON scalar, such as a string enumeration."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    raise TemplateError(f"a value of type {type(value).__name__} is not JSON")


def pairs(value: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The entries of an object by key: Tera's objects are sorted."""
    return sorted(((str(key), item) for key, item in value.items()), key=lambda pair: pair[0])


def equal(budget: Budget, left: Any, right: Any, depth: int = 0) -> bool:
    """JSON equality: `1` is neither `true` nor `1.0`."""
    budget.spend(1)
    if depth > MAX_DEPTH:
        raise LimitReached(f"a value is nested more than {MAX_DEPTH} deep")
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        return len(left) == len(right) and all(
            key in right and equal(budget, item, right[key], depth + 1)
            for key, item in left.items()
        )
    if is_array(left) and is_array(right):
        return len(left) == len(right) and all(
            equal(budget, one, two, depth + 1) for one, two in zip(left, right, strict=True)
        )
    if isinstance(left, str) and isinstance(right, str):
        budget.spend(min(len(left), len(right)) >> 10)
        return left == right
    return type(left) is type(right) and bool(left == right)


def contains(budget: Budget, container: Any, item: Any) -> bool:
    """`item in container`: an element of an array, a part of a string, a key of an object."""
    if is_array(container):
        return any(equal(budget, item, element) for element in container)
    if isinstance(container, str):
        if not isinstance(item, str):
            raise TemplateError(f"only a string can be looked for in a string, not {kind(item)}")
        budget.spend_text(len(container))
        return item in container
    if isinstance(container, Mapping):
        if not isinstance(item, str):
            raise TemplateError(f"only a string can be a key of an object, not {kind(item)}")
        return item in container
    raise TemplateError(f"'in' looks into strings, arrays and objects, not into {kind(container)}")


def number_text(value: float) -> str:
    """A number as printed: no exponent, no `.0`."""
    if isinstance(value, int):
        if value.bit_length() > MAX_NUMBER_BITS:
            raise LimitReached("a number is too large to print")
        return str(int(value))
    if not math.isfinite(value):
        raise TemplateError("a value is infinite or not a number, which JSON cannot hold")
    text = repr(float(value))
    if "e" in text:
        text = format(Decimal(text), "f")
    return text.removesuffix(".0")


def number_json(value: float) -> str:
    """A number as JSON writes it: a float keeps its `.0`."""
    text = number_text(value)
    return text + ".0" if isinstance(value, float) and "." not in text else text


def text_of(budget: Budget, value: Any) -> str:
    """What `{{ value }}` prints."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    if value is True:
        return "true"
    if value is False:
        return "false"
    parts: list[str] = []
    _print_into(parts, budget, value, 0)
    return "".join(parts)


def _print_into(parts: list[str], budget: Budget, value: Any, depth: int) -> None:
    if is_array(value):
        if depth > MAX_DEPTH:
            raise LimitReached(f"a value is nested more than {MAX_DEPTH} deep")
        parts.append("[")
        budget.allow_text(len(parts))
        for number, item in enumerate(value):
            if number:
                parts.append(", ")
            _print_into(parts, budget, item, depth + 1)
        parts.append("]")
        return
    if isinstance(value, Mapping):
        text = "[object]"
    elif is_number(value):
        text = number_text(value)
    else:
        text = text_of(
            budget, _scalar(value) if value is not None and type(value) not in _SCALARS else value
        )
    budget.spend(1 + (len(text) >> 5))
    if len(text) > budget.limits.value_chars:
        budget.allow_text(len(text))
    parts.append(text)


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise TemplateError("a number is too large to calculate with") from None


def compare(operator: str, left: Any, right: Any) -> bool:
    """`<`, `<=`, `>`, `>=`: numbers only, and exactly: whole numbers may be ids of 64 bits."""
    for value in (left, right):
        if not is_number(value):
            raise TemplateError(f"'{operator}' compares numbers, not {kind(value)}")
    match operator:
        case "<":
            return bool(left < right)
        case "<=":
            return bool(left <= right)
        case ">":
            return bool(left > right)
    return bool(left >= right)


def same(budget: Budget, left: Any, right: Any) -> bool | None:
    """Whether `left == right`; None when exactly one is a number, for then both `==` and `!=` are
    false."""
    if is_number(left) or is_number(right):
        if not (is_number(left) and is_number(right)):
            return None
        return bool(left == right)
    return equal(budget, left, right)


def calculate(operator: str, left: Any, right: Any) -> Any:
    """`+ - * / %` on numbers. What is no number at all, such as 1/0, is the text `NaN`."""
    for value in (left, right):
        if not is_number(value):
            raise TemplateError(f"'{operator}' calculates with numbers, not with {kind(value)}")
    if operator != "/" and isinstance(left, int) and isinstance(right, int):
        for low, high in ((I64_MIN, I64_MAX), (0, U64_MAX)):
            if low <= left <= high and low <= right <= high:
                return _calculate_whole(operator, left, right, low, high)
    result = _calculate_float(operator, _as_float(left), _as_float(right))
    return result if math.isfinite(result) else "NaN"


def _calculate_whole(operator: str, left: int, right: int, low: int, high: int) -> int:
    match operator:
        case "+":
            result = left + right
        case "-":
            result = left - right
        case "*":
            result = left * right
        case _:
            if right == 0:
                raise TemplateError("'%' cannot divide by zero")
            result = abs(left) % abs(right) * (-1 if left < 0 else 1)
    if not low <= result <= high:
        raise TemplateError(f"the result of '{operator}' does not fit into 64 bits")
    return result


def _calculate_float(operator: str, left: float, right: float) -> float:
    match operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return left / right if right else math.nan
    return math.fmod(left, right) if right and math.isfinite(left) else math.nan
