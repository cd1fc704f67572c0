"""Tera's filters on arrays, objects, numbers and any value; our filters that quote for a
language."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable
from typing import Any

from engine.errors import TemplateError
from engine.templating.calls import Call, Filter
from engine.templating.dates import date
from engine.templating.operations import I64_MAX, equal, number_json, text_of
from engine.templating.values import is_array, is_number, kind, plain, pointed

_ABSENT: Any = object()


def first(call: Call, value: Any) -> Any:
    return next(iter(call.array(value)), "")


def last(call: Call, value: Any) -> Any:
    return next(reversed(call.array(value)), "")


def nth(call: Call, value: Any) -> Any:
    items = call.array(value)
    if not items:
        return ""
    number = call.whole_argument("n", low=0)
    return items[number] if number < len(items) else ""


def join(call: Call, value: Any) -> str:
    separator, parts, size = call.text_argument("sep", ""), [], 0
    for item in call.array(value):
        parts.append(text_of(call.budget, item))
        size += len(parts[-1]) + len(separator)
        if size > call.budget.limits.value_chars:
            call.budget.allow_text(size)
    call.budget.spend_text(size)
    return separator.join(parts)


def sort(call: Call, value: Any) -> list[Any]:
    items = call.array(value)
    attribute = call.path_argument("attribute", "")
    keys = [_keyed(call, item, attribute) for item in items]
    call.budget.spend(len(items) * max(1, len(items).bit_length() // 2))
    if not items:
        return []
    rank = _rank(call, keys[0])
    for key in keys:
        if kind(key) != kind(keys[0]):
            raise TemplateError(f"{call.what} cannot put {kind(keys[0])} and {kind(key)} in order")
    return [
        items[number] for number in sorted(range(len(items)), key=lambda number: rank(keys[number]))
    ]


def _keyed(call: Call, item: Any, attribute: tuple[str, ...]) -> Any:
    key = pointed(item, attribute, _ABSENT)
    if key is _ABSENT:
        raise TemplateError(
            f"{call.what}: the attribute '{'.'.join(attribute)}' is missing in an element"
        )
    return key


def _rank(call: Call, key: Any) -> Callable[[Any], Any]:
    """Numbers by value, strings by their characters, arrays by their length, false before true."""
    if is_array(key):
        return len
    if isinstance(key, (bool, int, float, str)):
        return lambda item: item
    raise TemplateError(f"{call.what} cannot put {kind(key)} in order")


def unique(call: Call, value: Any) -> list[Any]:
    items = call.array(value)
    exact = call.flag_argument("case_sensitive")
    attribute = call.path_argument("attribute", "")
    if not items:
        return []
    sample = _keyed(call, items[0], attribute)
    if not isinstance(sample, (bool, int, float, str)):
        raise TemplateError(f"{call.what} cannot compare {kind(sample)}")
    kept, seen = [], set()
    for item in items:
        key = pointed(item, attribute, _ABSENT)
        if key is _ABSENT:
            continue
        if kind(key) != kind(sample):
            raise TemplateError(f"{call.what} cannot compare {kind(sample)} with {kind(key)}")
        if isinstance(key, str):
            call.budget.spend_text(len(key))
            key = key if exact else key.lower()
        if key not in seen:
            seen.add(key)
            kept.append(item)
    return kept


def slice_(call: Call, value: Any) -> list[Any]:
    items = call.array(value)

    def index(name: str, default: int) -> int:
        number = call.number_argument(name, default)
        if not math.isfinite(number):
            raise TemplateError(f"{call.what}: the argument '{name}' must be a number")
        return max(0, int(number if number >= 0 else len(items) + number))

    return items[index("start", 0) : index("end", len(items))]


def group_by(call: Call, value: Any) -> dict[str, list[Any]]:
    items, attribute = call.array(value), call.path_argument("attribute")
    groups: dict[str, list[Any]] = {}
    for item in items:
        key = pointed(item, attribute, None)
        if key is not None:
            groups.setdefault(key if isinstance(key, str) else encode(call, key), []).append(item)
    return groups


def filter_(call: Call, value: Any) -> list[Any]:
    items, attribute = call.array(value), call.path_argument("attribute")
    wanted = call.argument("value", None)
    found = ((item, pointed(item, attribute, None)) for item in items)
    if wanted is None:
        return [item for item, key in found if key is not None]
    return [item for item, key in found if equal(call.budget, key, wanted)]


def map_(call: Call, value: Any) -> list[Any]:
    items, attribute = call.array(value), call.path_argument("attribute")
    return [key for item in items if (key := pointed(item, attribute, None)) is not None]


def concat(call: Call, value: Any) -> list[Any]:
    items, more = call.array(value), call.argument("with")
    if not is_array(more):
        return [*items, more]
    call.budget.spend(len(more))
    return [*items, *more]


def length(call: Call, value: Any) -> int:
    if isinstance(value, (str, list, tuple, dict)):
        return len(value)
    raise TemplateError(
        f"{call.what} works on a string, an array or an object, not on {kind(value)}"
    )


def reverse(call: Call, value: Any) -> Any:
    if isinstance(value, str):
        return call.text(value)[::-1]
    if is_array(value):
        return call.array(value)[::-1]
    raise TemplateError(f"{call.what} works on a string or an array, not on {kind(value)}")


def absolute(call: Call, value: Any) -> float:
    number = abs(call.number(value))
    if isinstance(number, int) and number == I64_MAX + 1:
        raise TemplateError(f"{call.what}: the result does not fit into 64 bits")
    return number


def pluralize(call: Call, value: Any) -> str:
    number = call.number(value)
    singular, plural = call.text_argument("singular", ""), call.text_argument("plural", "s")
    return singular if abs(number) == 1 else plural


def round_(call: Call, value: Any) -> float | None:
    method = call.text_argument("method", "common")
    precision = call.whole_argument("precision", 0, low=-300, high=300)
    if method not in ("common", "ceil", "floor"):
        raise TemplateError(f"{call.what}: the argument 'method' must be common, ceil or floor")
    given = call.number(value)
    if isinstance(given, int) and precision >= 0:
        return given  # a float would lose digits of an id of 64 bits
    number, factor = float(given), 10.0**precision
    scaled = number * factor
    if not math.isfinite(scaled):
        return None
    match method:
        case "common":  # half away from zero
            whole = math.floor(abs(scaled))
            rounded = math.copysign(whole + (abs(scaled) - whole >= 0.5), scaled)
        case "ceil":
            rounded = math.ceil(scaled)
        case _:
            rounded = math.floor(scaled)
    result = rounded / factor
    return result if math.isfinite(result) else None


def filesizeformat(call: Call, value: Any) -> str:
    number = call.number(value)
    if not isinstance(number, int) or number < 0:
        raise TemplateError(f"{call.what} works on a whole number that is not negative")
    size, units = float(min(number, I64_MAX)), ["B", "KB", "MB", "GB", "TB", "PB", "EB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}" if size == int(size) else f"{size:.2f} {units[0]}"


def get(call: Call, value: Any) -> Any:
    key = call.text_argument("key")
    if not isinstance(value, dict):
        raise TemplateError(f"{call.what} works on an object, not on {kind(value)}")
    found = value.get(key, _ABSENT)
    if found is not _ABSENT:
        return found
    return call.argument("default") if "default" in call.arguments else _no_key(call, key)


def _no_key(call: Call, key: str) -> Any:
    raise TemplateError(f"{call.what}: the object has no key '{key[:60]}', and no default is given")


def encode(call: Call, value: Any) -> str:
    """The value as JSON; objects in the order of their keys."""
    pretty = call.flag_argument("pretty")
    if is_number(value):
        return number_json(value)
    if isinstance(value, (dict, list, tuple)):
        value = plain(call.budget, value)
        _measure(call, value)
    elif isinstance(value, str):
        call.budget.spend_text(len(value))
    separators = None if pretty else (",", ":")
    text = json.dumps(
        value,
        ensure_ascii=False,
        sort_keys=True,
        indent=2 if pretty else None,
        separators=separators,
        allow_nan=False,
    )
    call.budget.allow_text(len(text))
    return text


def _measure(call: Call, value: Any) -> None:
    """Refuses a value whose text would be too long, before creating the text."""
    size, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            size += len(item)
        elif isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict):
            size += sum(map(len, item))
            waiting.extend(item.values())
        elif isinstance(item, int) and item.bit_length() > 64:
            size += len(number_json(item))
        size += 2
        if size > call.budget.limits.value_chars:
            call.budget.allow_text(size)


def as_str(call: Call, value: Any) -> str:
    return text_of(call.budget, value)


def safe(call: Call, value: Any) -> Any:
    """Does nothing: text is never escaped."""
    return value


def sh(call: Call, value: Any) -> str:
    """One word of a POSIX shell; an array becomes one word per element."""
    if is_array(value):
        words = [_word(call, item) for item in call.array(value)]
        call.budget.allow_text(sum(map(len, words)) + len(words))
        return " ".join(words)
    return _word(call, value)


def _word(call: Call, value: Any) -> str:
    text = (
        encode(call, value)
        if isinstance(value, (dict, list, tuple))
        else text_of(call.budget, value)
    )
    if "\0" in text:
        raise TemplateError(f"{call.what}: the value holds a NUL character, which no shell can")
    call.budget.allow_text(len(text) + 4 * text.count("'") + 2)
    return shlex.quote(text)


def py(call: Call, value: Any) -> str:
    """A Python literal in ASCII."""
    if isinstance(value, (dict, list, tuple)):
        value = plain(call.budget, value)
        _measure(call, value)
    elif isinstance(value, str):
        call.budget.spend_text(len(value) * 2)
    elif is_number(value):
        return number_json(value)
    text = ascii(value)
    call.budget.allow_text(len(text))
    return text


DATA_FILTERS: dict[str, Filter] = {
    "first": first,
    "last": last,
    "nth": nth,
    "join": join,
    "sort": sort,
    "unique": unique,
    "slice": slice_,
    "group_by": group_by,
    "filter": filter_,
    "map": map_,
    "concat": concat,
    "length": length,
    "reverse": reverse,
    "abs": absolute,
    "pluralize": pluralize,
    "round": round_,
    "filesizeformat": filesizeformat,
    "date": date,
    "get": get,
    "json_encode": encode,
    "json": encode,
    "as_str": as_str,
    "safe": safe,
    "sh": sh,
    "py": py,
}
