"""Writes progress to a terminal, or as plain lines elsewhere. Control characters from a job never
reach the terminal."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from typing import TextIO

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CLEAR_LINE = "\r\x1b[2K"
_COLOURS = {
    "completed": "32",
    "succeeded": "32",
    "failed": "31",
    "cancelled": "33",
    "skipped": "90",
    "running": "36",
    "suspended": "35",
}
LONGEST_LINE = 20_000
MARK = "\N{REPLACEMENT CHARACTER}"


class Screen:
    """Lines and, on a terminal, a last line that shows what is running."""

    def __init__(self, out: TextIO, *, has_colour: bool | None = None) -> None:
        """`has_colour`: None for what the terminal and NO_COLOR say."""
        self._out = out
        self._is_terminal = out.isatty() and os.environ.get("TERM") != "dumb"
        wanted = self._is_terminal and not os.environ.get("NO_COLOR")
        self._has_colour = wanted if has_colour is None else has_colour
        self._has_status = False

    def line(self, text: str) -> None:
        self._clear()
        self._out.write(clean(text)[:LONGEST_LINE] + "\n")

    def state(self, name: str, status: str, *, note: str = "", error: str = "") -> None:
        """Write a line for the state, and the error's lines below it."""
        shown = (
            f"\x1b[{_COLOURS[status]}m{status}\x1b[0m"
            if self._has_colour and status in _COLOURS
            else status
        )
        self._clear()
        self._out.write(f"{clean(name)}: {shown}{f' ({clean(note)})' if note else ''}\n")
        for line in error.splitlines():
            self.line(f"  {line}")

    def running(self, steps: Sequence[tuple[str, float]]) -> None:
        """Show the running steps with their seconds so far, on a terminal only."""
        if not self._is_terminal:
            return
        self._clear()
        if steps:
            text = "  ".join(f"{clean(name)} {seconds:.0f} s" for name, seconds in steps[:5])
            more = f"  and {len(steps) - 5} more" if len(steps) > 5 else ""
            self._out.write(f"running: {text}{more}"[: shutil.get_terminal_size().columns - 1])
            self._has_status = True
        self._out.flush()

    def flush(self) -> None:
        self._out.flush()

    def close(self) -> None:
        self._clear()
        self._out.flush()

    def _clear(self) -> None:
        if self._has_status:
            self._out.write(_CLEAR_LINE)
            self._has_status = False


def clean(text: str) -> str:
    """`text` without escape sequences; other control characters except tab become a mark."""
    plain = _ESCAPES.sub("", text)
    return "".join(letter if letter == "\t" or letter.isprintable() else MARK for letter in plain)
