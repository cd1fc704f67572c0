"""Options whose value is empty: a variable of a script that was not set."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, _SubParsersAction
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MAY_BE_EMPTY = frozenset({"reason", "search", "input", "input_file"})


def refuse_empty_values(parser: ArgumentParser) -> None:
    """An empty `--task "$TASK"` would mean all tasks, an empty `--artifacts` the current folder."""
    for action in parser._actions:
        if isinstance(action, _SubParsersAction):
            for inner in action.choices.values():
                refuse_empty_values(inner)
            continue
        is_text = action.nargs != 0 and action.type in (None, str, Path) and action.default != ""
        if action.option_strings and is_text and action.dest not in _MAY_BE_EMPTY:
            action.type = _given(action.type or str)


def _given(convert: Any) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        if not text.strip():
            raise ArgumentTypeError("is empty: give a value, or leave the option out")
        return convert(text)

    return read
