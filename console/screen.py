"""Writes what happens to a terminal, or as plain lines where there is none. Nothing of a job can
steer the terminal."""

from __future__ import annotations

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
    """Lines above, and on a terminal one line below them that says what is running now."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._has_status = False

    def line(self, text: str) -> None:
        self._clear()
        self._out.write(clean(text)[:LONGEST_LINE] + "\n")

    def state(self, name: str, status: str, *, note: str = "", error: str = "") -> None:
        """One line for the state, and the lines of the error below it."""
        shown = (
            f"\x1b[{_COLOURS[status]}m{status}\x1b[0m"
            if self._is_terminal and status in _COLOURS
            else status
        )
        self._clear()
        self._out.write(f"{clean(name)}: {shown}{f' ({clean(note)})' if note else ''}\n")
        for line in error.splitlines():
            self.line(f"  {line}")

    def running(self, steps: Sequence[tuple[str, float]]) -> None:
        """The steps that run, with their seconds so far; only a terminal shows them."""
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
    """`text` without escape sequences and with a mark for each other control character but the
    tab."""
    plain = _ESCAPES.sub("", text)
    return "".join(letter if letter == "\t" or letter.isprintable() else MARK for letter in plain)
