"""Checks input values against the fields of a task, an action or an approval form.

A declared field without a value and default is absent from the result. Values of connection types
pass through: the caller resolves them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from engine.errors import InputError
from engine.plain import shorten
from engine.spec.model import InputField
from engine.spec.problems import did_you_mean
from engine.spec.written import Written, is_exact

_WHOLE = re.compile(r"[-+]?[0-9]{1,40}")
_NUMBER = re.compile(r"[-+]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][-+]?[0-9]{1,4})?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_DATETIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt"
    r" ]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?([Zz]|[-+][0-9]{2}:[0-9]{2})"
)
_BIGGEST = 2**63 - 1
_NOT_A_NAME = re.compile(r"[^A-Z0-9]")
_DEEPEST = 100


class _Wrong(Exception):
    """A wrong value; the text ends a sentence: `must be a whole number`."""

    def __init__(self, sentence: str, *, but_got: bool = True) -> None:
        self.but_got = but_got  # whether to append `, not 'abc'`
        super().__init__(sentence)


def resolve(
    fields: Mapping[str, InputField],
    given: Mapping[str, Any],
    defaults_rendered: Mapping[str, Any],
    *,
    path: str = "input",
    allow_unknown: bool = False,
) -> dict[str, Any]:
    """The values of all fields, coerced; raises InputError with one sentence per wrong field.

    `defaults_rendered` holds the rendered template defaults; other defaults come from the fields.
    With `allow_unknown` (webhooks bring their own fields) undeclared values are kept unchanged.
    """
    problems: dict[str, str] = {}
    values: dict[str, Any] = {}
    for name, field in fields.items():
        value = given.get(name)
        if _is_missing(field, value):
            value = defaults_rendered.get(name, field.default if field.has_default else None)
        if _is_missing(field, value):
            if field.required:
                problems[name] = f"{path} '{shorten(name)}' is required"
            continue
        try:
            values[name] = _coerce(field, value)
        except _Wrong as wrong:
            problems[name] = (
                f"{path} '{shorten(name)}' {wrong}{_but_got(field, value) if wrong.but_got else ''}"
            )
    for name in given:
        if name in fields:
            continue
        if not allow_unknown:
            problems[name] = _unknown(name, fields, path)
        elif _is_storable(given[name]) and _is_clean(name):
            values[name] = given[name]
        else:
            problems[name] = (
                f"{path} '{shorten(name)}' contains what cannot be stored: NUL, NaN, half of a"
                f" surrogate pair, an inexact number, or more than {_DEEPEST}"
                " levels"
            )
    if problems:
        raise InputError(problems)
    return values


def secret_fields(fields: Mapping[str, InputField]) -> frozenset[str]:
    """Names of the fields whose values must never be shown."""
    return frozenset(name for name, field in fields.items() if field.secret)


def variable_of(name: str) -> str:
    """The environment variable with the input of this name."""
    return "STROEM_INPUT_" + _NOT_A_NAME.sub("_", name.upper())


def _unknown(name: str, fields: Mapping[str, InputField], path: str) -> str:
    hint = did_you_mean(name, fields)
    if not hint:
        known = ", ".join(f"'{shorten(known)}'" for known in list(fields)[:10])
        hint = f" (known: {known})" if fields else " (none is declared)"
    return f"{path} '{shorten(name)}' is not declared{hint}"


def _is_missing(field: InputField, value: Any) -> bool:
    """Absent, null, or empty text: forms send the latter for an untouched field."""
    return value is None or (
        isinstance(value, str) and value == "" and (field.required or field.type not in _TEXTS)
    )


def is_nothing(field: InputField) -> bool:
    """Whether the default is as good as none: whoever leaves the field out gets no value."""
    is_empty_list = field.multiple and field.default in ([], ())
    return _is_missing(field, field.default) or (field.required and is_empty_list)


def _but_got(field: InputField, value: Any) -> str:
    if field.secret:
        return ""
    if isinstance(value, str):
        return f", not '{shorten(value)}'"
    if isinstance(value, bool):
        return f", not {str(value).lower()}"
    if isinstance(value, int | float):
        return (
            f", not {shorten(written(value), 30)}"
            if not isinstance(value, int) or abs(value) < 10**30
            else ""
        )
    return ", not a list" if isinstance(value, list | tuple) else ", not an object"


def _coerce(field: InputField, value: Any) -> Any:
    if field.multiple:
        return _coerce_many(field, value)
    read = _READERS.get(field.type)
    if read is None:
        return _read_connection(value)
    coerced = read(value)
    if not is_option(field, coerced):
        raise _Wrong(f"must be one of {', '.join(map(shorten, field.options or ()))}")
    return coerced


def is_option(field: InputField, value: Any) -> bool:
    """Whether a coerced value may be chosen; numbers are compared as numbers: 0.10 is 0.1."""
    if not field.options or field.allow_custom or written(value) in field.options:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return any(
        _NUMBER.fullmatch(option) and float(option) == float(value) for option in field.options
    )


def _coerce_many(field: InputField, value: Any) -> list[str]:
    items = value if isinstance(value, list | tuple) else _read_list(field, value)
    if not all(isinstance(item, str | int | float) for item in items):
        raise _Wrong("must be a list of texts", but_got=False)
    found = [_read_text(item) for item in items]
    for item in found:
        if field.options and not field.allow_custom and item not in field.options:
            shown = "" if field.secret else f" ('{shorten(item)}' is not)"
            raise _Wrong(
                f"must hold only {', '.join(map(shorten, field.options))}{shown}", but_got=False
            )
    if field.required and not found:
        raise _Wrong("is required: choose at least one", but_got=False)
    return found


def _read_list(field: InputField, value: Any) -> list[Any]:
    """One value, or several in JSON: a command line and a query have nothing but text."""
    if isinstance(value, str) and value.startswith("[") and value not in (field.options or ()):
        try:
            found = json.loads(value, parse_float=Written, parse_constant=str)
        except (ValueError, RecursionError):
            return [value]
        return list(found)
    return [value]


def _read_text(value: Any) -> str:
    if isinstance(value, Written):
        value = value.text
    elif isinstance(value, int | float) and _is_storable(value):
        value = written(value)
    if not isinstance(value, str):
        raise _Wrong("must be text")
    if not _is_clean(value):
        raise _Wrong("must be text without NUL characters and halves of surrogate pairs")
    return value


def written(value: Any) -> str:
    """A value as JSON writes it; a number as it was written."""
    if isinstance(value, Written):
        return value.text
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read_whole(value: Any) -> int:
    if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
        value = int(value.strip())
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _Wrong("must be a whole number")
    if abs(value) > _BIGGEST:
        raise _Wrong(f"must be a whole number of at most {_BIGGEST}")
    return value


def _read_number(value: Any) -> int | float:
    if isinstance(value, str):
        text = value.strip()
        if _WHOLE.fullmatch(text):
            return _read_whole(text)
        if _NUMBER.fullmatch(text):
            value = Written(text)
    if isinstance(value, int) and not isinstance(value, bool):
        return _read_whole(value) if not _was_float(value) else float(value)
    if not isinstance(value, float) or not math.isfinite(value):
        raise _Wrong("must be a number")
    if isinstance(value, Written) and not is_exact(value.text):
        words = "has more digits than a number keeps (17); shorten it, or declare a string"
        raise _Wrong(words, but_got=False)
    return float(value)


def _was_float(value: int) -> bool:
    """Whether this is how a database writes a float without a fraction: 1e22, with all zeros."""
    if not _BIGGEST < abs(value) < 10**309:
        return False
    number = float(value)
    return math.isfinite(number) and int(Decimal(repr(number))) == value


def _read_flag(value: Any) -> bool:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if not isinstance(value, bool):
        raise _Wrong("must be true or false")
    return value


def _read_date(value: Any) -> str:
    wanted = "must be a date such as 2026-01-31"
    if not isinstance(value, str) or not _DATE.fullmatch(value.strip()):
        raise _Wrong(wanted)
    try:
        return date.fromisoformat(value.strip()).isoformat()
    except ValueError:
        raise _Wrong(f"{wanted} that exists in the calendar") from None


def _read_datetime(value: Any) -> str:
    wanted = (
        "must be a time with its zone, such as 2026-01-31T09:30:00Z or 2026-01-31T09:30:00+02:00"
    )
    found = _DATETIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if not found:
        raise _Wrong(wanted)
    day, clock, fraction, zone = found.groups()
    offset = "+00:00" if zone in "Zz" else zone
    try:
        datetime.fromisoformat(f"{day}T{clock}{offset}")
    except ValueError:
        raise _Wrong(f"{wanted}, that exists in the calendar") from None
    return f"{day}T{clock}{fraction or ''}{'Z' if zone in 'Zz' else zone}"


def _read_connection(value: Any) -> Any:
    if not isinstance(value, str | Mapping):
        raise _Wrong("must be the name of a connection, or an object")
    if not _is_storable(value):
        raise _Wrong("must not contain NUL characters, halves of surrogate pairs or NaN")
    return value


def _is_clean(text: str) -> bool:
    """Whether text can be stored and sent: no NUL, no unpaired surrogate."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


def _is_storable(value: Any, depth: int = 0) -> bool:
    """Whether PostgreSQL can store `value` as JSON."""
    if depth > _DEEPEST:
        return False
    if isinstance(value, str):
        return _is_clean(value)
    if isinstance(value, float):
        return math.isfinite(value) and not (
            isinstance(value, Written) and not is_exact(value.text)
        )
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_clean(key) for key in value) and all(
            _is_storable(item, depth + 1) for item in value.values()
        )
    if isinstance(value, list | tuple):
        return all(_is_storable(item, depth + 1) for item in value)
    return value is None or (
        isinstance(value, int) and (isinstance(value, bool) or abs(value) <= _BIGGEST)
    )


_TEXTS = ("string", "text")
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "string": _read_text,
    "text": _read_text,
    "integer": _read_whole,
    "number": _read_number,
    "boolean": _read_flag,
    "bool": _read_flag,
    "date": _read_date,
    "datetime": _read_datetime,
}
