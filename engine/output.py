"""The OUTPUT: protocol: the last such line of a step's stdout is its output for later steps.

Pure: takes whole lines, keeps the value, and returns a warning for a line that it cannot parse.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

PREFIX = "OUTPUT:"
MAX_DEPTH = 100
MAX_WARNINGS = 20
_SHOWN = 80
_ESCAPE_TO_REPAIR = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_REPAIRED = "\ufffd"


class OutputProtocol:
    """Reads the lines of one attempt's stdout. `value` is valid only when `has_output` is true."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.value: Any = None
        self.has_output = False
        self.error: str | None = None
        self._warnings = 0

    def feed(self, line: str) -> str | None:
        """Take one line; returns a warning for the log, or None. Lines without the prefix are
        ignored."""
        if not line.startswith(PREFIX) or self.error is not None:
            return None
        text = line[len(PREFIX) :].strip()
        if len(text) > self.max_bytes // 4 and len(text.encode()) > self.max_bytes:
            self.refuse()
            return None
        try:
            value = parse(text)
        except ValueError as problem:
            return self._warn(text, str(problem))
        self.value, self.has_output = value, True
        return None

    def refuse(self) -> None:
        """Record a line longer than the limit: the step fails, even with other output lines."""
        self.value, self.has_output = None, False
        self.error = (
            f"An OUTPUT: line is longer than the {self.max_bytes} bytes that a step may pass on; "
            "write the data to a file or a store and put its name in the output"
        )

    def _warn(self, text: str, problem: str) -> str | None:
        self._warnings += 1
        if self._warnings > MAX_WARNINGS:
            return None
        shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
        more = "; further ones are not reported" if self._warnings == MAX_WARNINGS else ""
        return f"Warning: this OUTPUT: line is ignored, because {problem}: {shown}{more}"


def parse(text: str) -> Any:
    """The JSON value in `text`, ready to be stored and passed on; ValueError says what is wrong.

    Stricter than `json.loads`: no NaN or Infinity (even by overflow), at most MAX_DEPTH levels. NUL
    and lone surrogates, which a database cannot store, become U+FFFD.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_parse_float)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not valid JSON ({error.msg} at column {error.colno})") from None
    if text.count("[") + text.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
    return _repair(value) if _ESCAPE_TO_REPAIR.search(text) else value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


def _parse_float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("it holds a number that is too large")
    return number


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _depth(value: Any) -> int:
    """The nesting depth of lists and objects, without recursion."""
    level, depth = [value], 0
    while level := [
        child for parent in level for child in _children(parent) if isinstance(child, (dict, list))
    ]:
        depth += 1
    return depth + isinstance(value, (dict, list))


def _repair(value: Any) -> Any:
    match value:
        case str():
            return (
                value.replace("\0", _REPAIRED)
                .encode("utf-16", "surrogatepass")
                .decode("utf-16", "replace")
            )
        case list():
            return [_repair(item) for item in value]
        case dict():
            return {_repair(key): _repair(item) for key, item in value.items()}
        case _:
            return value
