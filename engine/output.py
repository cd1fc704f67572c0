"""The protocol lines of a step's stdout: the last OUTPUT: line is its output for later steps;
STATE: and GLOBAL_STATE: lines are what its task and its workspace remember.

Pure: takes whole lines and keeps the values. A line that is not JSON gets a warning; JSON that
cannot be passed on exactly fails the step.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from engine.spec.written import is_exact

PREFIX = "OUTPUT:"
MAX_DEPTH = 100
MAX_WARNINGS = 20
_SHOWN = 80
STATE, GLOBAL_STATE = "STATE:", "GLOBAL_STATE:"
PREFIXES = (PREFIX, STATE, GLOBAL_STATE)
_A = {PREFIX: "An OUTPUT:", STATE: "A STATE:", GLOBAL_STATE: "A GLOBAL_STATE:"}
_BIGGEST, _MOST_DIGITS = 2**63 - 1, 20
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")
_MANY_DIGITS = re.compile(r"[0-9]{19}")
_MANY_FIGURES = re.compile(r"[0-9.]{19}")
_ESCAPE_TO_CHECK = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class Unpassable(ValueError):
    """The value is JSON, but would not reach the next step as it is."""


def prefix_of(line: str) -> str:
    """The prefix of a protocol line; empty for any other."""
    return next((prefix for prefix in PREFIXES if line.startswith(prefix)), "")


class OutputProtocol:
    """Reads the lines of one attempt's stdout. `value` is valid only when `has_output` is true;
    `states` holds the keys written so far, by prefix."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.value: Any = None
        self.has_output = False
        self.error: str | None = None
        self.states: dict[str, dict[str, Any]] = {}
        self.state_lines = 0
        self._state_bytes = 0
        self._warnings = 0
        self._misplaced: set[str] = set()

    def feed(self, line: str) -> str | None:
        """Take one line; returns a warning for the log, or None. Other lines are ignored."""
        prefix = prefix_of(line)
        self.state_lines += prefix not in ("", PREFIX)
        if not prefix or self.error is not None:
            return None
        text = line[len(prefix) :].strip()
        if len(text) > self.max_bytes // 4 and len(text.encode()) > self.max_bytes:
            self.refuse(prefix)
            return None
        try:
            value = parse(text)
        except Unpassable as problem:
            self._fail(f"{_A[prefix]} line cannot be passed on, because {problem}: {_cut(text)}")
            return None
        except ValueError as problem:
            return self._warn(prefix, text, str(problem))
        if prefix == PREFIX:
            self.value, self.has_output = value, True
        elif not isinstance(value, dict):
            return self._warn(prefix, text, "it is no JSON object")
        else:
            self._remember(prefix, value, len(text))
        return _doubt(prefix, text, value)

    def _remember(self, prefix: str, values: dict[str, Any], size: int) -> None:
        self.states.setdefault(prefix, {}).update(values)
        self._state_bytes += size
        if self._state_bytes > 2 * self.max_bytes:  # perhaps the same keys again and again
            self._state_bytes = len(json.dumps(self.states, ensure_ascii=False))
            if self._state_bytes > 2 * self.max_bytes:
                self.refuse(prefix)

    def refuse(self, prefix: str = PREFIX) -> None:
        """Record a line longer than the limit: the step fails, even with other output lines."""
        place = "output" if prefix == PREFIX else "state"
        self._fail(
            f"{_A[prefix]} line is longer than the {self.max_bytes} bytes that a step may pass on; "
            f"write the data to a file or a store and put its name in the {place}"
        )

    def misplace(self, prefix: str = PREFIX) -> str | None:
        """Take a protocol line on standard error; returns a warning for the log, once."""
        if prefix in self._misplaced:
            return None
        self._misplaced.add(prefix)
        a = _A[prefix][0].lower() + _A[prefix][1:]
        return f"Warning: {a} line on standard error has no effect; print it on standard output"

    def repaired(self, prefix: str) -> str | None:
        """A warning for the log about a line whose bytes were no text, unless the step fails."""
        if self.error is not None:
            return None
        return (
            f"Warning: this {prefix} line holds NUL or bytes that are no UTF-8: {_reader(prefix)}"
            " U+FFFD instead of them"
        )

    def hide(self, prefix: str) -> str | None:
        """Take a line that only looks like a protocol line; returns a warning for the log, once."""
        if f"hidden {prefix}" in self._misplaced:
            return None
        self._misplaced.add(f"hidden {prefix}")
        a = _A[prefix][0].lower() + _A[prefix][1:]
        return (
            f"Warning: {a} line has no effect: before it, in the same line, there is something"
            " that the log does not show, such as a progress bar, a colour code or a byte order"
            " mark; print it on a line of its own"
        )

    def _fail(self, error: str) -> None:
        self.value, self.has_output, self.error = None, False, error

    def _warn(self, prefix: str, text: str, problem: str) -> str | None:
        self._warnings += 1
        if self._warnings > MAX_WARNINGS:
            return None
        more = "; further ones are not reported" if self._warnings == MAX_WARNINGS else ""
        return f"Warning: this {prefix} line is ignored, because {problem}: {_cut(text)}{more}"


def _reader(prefix: str) -> str:
    return "the next step gets" if prefix == PREFIX else "what is kept is"


def _doubt(prefix: str, text: str, value: Any) -> str | None:
    """A warning if the value that comes through is not exactly what was written."""
    reader = _reader(prefix)
    if _MANY_FIGURES.search(text) and (rounded := _find_rounded(text)):
        return (
            f"Warning: this {prefix} line holds {_cut(rounded)}, which has more digits than a"
            f" number keeps: {reader} {float(rounded)!r}; write it as text"
        )
    if _ESCAPE_TO_CHECK.search(text) and not is_clean(value):
        return (
            f"Warning: this {prefix} line holds NUL or half of a surrogate pair, which cannot be"
            f" stored: {reader} U+FFFD instead: {_cut(text)}"
        )
    return None


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def parse(text: str) -> Any:
    """The JSON value in `text`, as it will reach the next step; ValueError says what is wrong.

    Stricter than `json.loads`: Unpassable for NaN, Infinity (even by overflow), a whole number
    beyond 64 bits and more than MAX_DEPTH levels.
    """
    try:
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_parse_float, parse_int=_parse_int
        )
    except RecursionError:
        raise Unpassable(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not valid JSON ({error.msg} at column {error.colno})") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise Unpassable(f"it is nested deeper than {MAX_DEPTH} levels")
    return value


def load_stored(text: str) -> Any:
    """The value in JSON text from the database, which writes 1e22 as 10000000000000000000000: a
    whole number beyond 64 bits was not one when it was stored."""
    return (
        json.loads(text, parse_int=_read_stored) if _MANY_DIGITS.search(text) else json.loads(text)
    )


class StoredDecoder(json.JSONDecoder):
    """The same, for columns."""

    def __init__(self, **options: Any) -> None:
        super().__init__(parse_int=_read_stored, **options)


def _read_stored(text: str) -> int | float:
    number = int(text)
    return number if abs(number) <= _BIGGEST else float(text)


def _refuse_constant(name: str) -> NoReturn:
    raise Unpassable(f"{name} is not a JSON value; write null or text")


def _parse_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise Unpassable("it holds a number that is too large; write it as text")
    return number


def _parse_int(text: str) -> int:
    if len(text) > _MOST_DIGITS or abs(int(text)) > _BIGGEST:
        raise Unpassable(f"it holds a whole number above {_BIGGEST}; write it as text")
    return int(text)


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _find_rounded(text: str) -> str:
    """The first number of this JSON that a double does not hold; empty if there is none."""
    found: list[str] = []

    def look(number: str) -> float:
        if not is_exact(number):
            found.append(number)
        return 0.0

    json.loads(text, parse_float=look)
    return found[0] if found else ""


def _depth(value: Any) -> int:
    """The nesting depth of lists and objects, without recursion."""
    level, depth = [value], 0
    while level := [
        child for parent in level for child in _children(parent) if isinstance(child, (dict, list))
    ]:
        depth += 1
    return depth + isinstance(value, (dict, list))


def is_clean(value: Any) -> bool:
    """Whether no text holds NUL or half of a surrogate pair."""
    stack = [value]
    while stack:
        part = stack.pop()
        if isinstance(part, dict):
            stack.extend(part)
        stack.extend(_children(part))
        if isinstance(part, str) and _NOT_STORABLE.search(part):
            return False
    return True
