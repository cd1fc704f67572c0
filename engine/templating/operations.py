"""What operators and printing make of JSON values, as Tera has it: what is true, what is equal, how
each prints, how numbers add up.

Messages name kinds, never values: a value may be a secret.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from engine.errors import TemplateError
from engine.templating.values import (
    MAX_DEPTH,
    SCALARS,
    Budget,
    LimitReached,
    is_array,
    is_number,
    kind,
    scalar,
)

I64_MIN, I64_MAX, U64_MAX = -(2**63), 2**63 - 1, 2**64 - 1
MAX_NUMBER_BITS = 4_096  # of integers that are printed


def is_true(value: Any) -> bool:
    """False: null, false, 0, NaN, empty text, array and object."""
    if isinstance(value, float):
        return value != 0.0 and not math.isnan(value)
    return bool(value)


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
            budget, scalar(value) if value is not None and type(value) not in SCALARS else value
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
