"""The OUTPUT: protocol: the last such line of a step's stdout is its output for later steps.

Pure: takes whole lines and keeps the value. A line that is not JSON gets a warning; JSON that
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
UNBUILT = ("STATE:", "GLOBAL_STATE:")  # lines that a later version will understand
_BIGGEST, _MOST_DIGITS = 2**63 - 1, 20
_NOT_STORABLE = re.compile("[\0\ud800-\udfff]")
_MANY_DIGITS = re.compile(r"[0-9]{19}")
_MANY_FIGURES = re.compile(r"[0-9.]{19}")
_ESCAPE_TO_CHECK = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


class Unpassable(ValueError):
    """The value is JSON, but would not reach the next step as it is."""


class OutputProtocol:
    """Reads the lines of one attempt's stdout. `value` is valid only when `has_output` is true."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.value: Any = None
        self.has_output = False
        self.error: str | None = None
        self._warnings = 0
        self._has_state = False
        self._is_misplaced = False

    def feed(self, line: str) -> str | None:
        """Take one line; returns a warning for the log, or None. Other lines are ignored."""
        if not line.startswith(PREFIX) or self.error is not None:
            return self._state(line) if line.startswith(UNBUILT) else None
        text = line[len(PREFIX) :].strip()
        if len(text) > self.max_bytes // 4 and len(text.encode()) > self.max_bytes:
            self.refuse()
            return None
        try:
            value = parse(text)
        except Unpassable as problem:
            self._fail(f"An OUTPUT: line cannot be passed on, because {problem}: {_cut(text)}")
            return None
        except ValueError as problem:
            return self._warn(text, str(problem))
        self.value, self.has_output = value, True
        if _MANY_FIGURES.search(text) and (rounded := _find_rounded(text)):
            return (
                f"Warning: this OUTPUT: line holds {_cut(rounded)}, which has more digits than a"
                f" number keeps: the next step gets {float(rounded)!r}; write it as text"
            )
        if _ESCAPE_TO_CHECK.search(text) and not is_clean(value):
            return (
                "Warning: this OUTPUT: line holds NUL or half of a surrogate pair, which cannot be"
                f" stored: the next step gets U+FFFD instead: {_cut(text)}"
            )
        return None

    def refuse(self) -> None:
        """Record a line longer than the limit: the step fails, even with other output lines."""
        self._fail(
            f"An OUTPUT: line is longer than the {self.max_bytes} bytes that a step may pass on; "
            "write the data to a file or a store and put its name in the output"
        )

    def misplace(self) -> str | None:
        """Take an output line on standard error; returns a warning for the log, once."""
        if self._is_misplaced:
            return None
        self._is_misplaced = True
        return (
            "Warning: an OUTPUT: line on standard error has no effect; print it on standard output"
        )

    def _fail(self, error: str) -> None:
        self.value, self.has_output, self.error = None, False, error

    def _state(self, line: str) -> str | None:
        prefix, _, text = line.partition(":")
        if self._has_state or not text.lstrip().startswith("{"):
            return None
        self._has_state = True
        return f"Warning: this version does not keep state: {prefix}: lines have no effect"

    def _warn(self, text: str, problem: str) -> str | None:
        self._warnings += 1
        if self._warnings > MAX_WARNINGS:
            return None
        more = "; further ones are not reported" if self._warnings == MAX_WARNINGS else ""
        return f"Warning: this OUTPUT: line is ignored, because {problem}: {_cut(text)}{more}"


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
