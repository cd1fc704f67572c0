"""Where a shell script is within quotes: there `sh` would not quote, but end the quotes."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MARK = re.compile(
    r"""\\.|['"`\n()]|\$\(|(?<![^\s;&|(])\#|<<-?[ \t]*"""
    r"""(?P<quote>['"]?)(?P<word>[A-Za-z_]\w*)(?P=quote)""",
    re.DOTALL,
)


def enclosures(text: str, tags: Sequence[tuple[int, int]]) -> list[str]:
    """For each tag, given by its place, what it stands in: `'`, `"`, a back quote, `<<` (a here
    document), `#` (a comment, which a line break in the value would end), or nothing.

    Reads as a shell would, except that it knows no `case` patterns and takes a here document to
    begin at once.
    """
    found: list[str] = []
    nest: list[str] = []  # quotes and parentheses that are open
    position = 0
    for start, end in tags:
        while position < start:
            position = _advance(text, position, start, nest)
        found.append(nest[-1][:2] if nest and nest[-1] != "(" else "")
        position = max(position, end)
    return found


def _advance(text: str, position: int, stop: int, nest: list[str]) -> int:
    """Goes to the next mark before `stop`, and over it."""
    top = nest[-1] if nest else ""
    if top == "'":
        return _until(text, "'", position, stop, nest)
    if top.startswith("<<"):
        return _until_word(text, position, stop, nest)
    if top == "#":
        return _until(text, "\n", position, stop, nest)
    mark = _MARK.search(text, position, stop)
    if mark is None:
        return stop
    sign = mark[0]
    if sign in ('"', "`"):
        if top == sign:
            nest.pop()
        else:
            nest.append(sign)
    elif sign == "$(" or (sign == "(" and top != '"'):
        nest.append("(")
    elif sign == ")" and top == "(":
        nest.pop()
    elif top != '"' and sign in ("'", "#"):
        nest.append(sign)
    elif top != '"' and mark["word"]:
        nest.append("<<" + mark["word"])
    return mark.end()


def _until(text: str, end: str, position: int, stop: int, nest: list[str]) -> int:
    at = text.find(end, position, stop)
    if at < 0:
        return stop
    nest.pop()
    return at + 1


def _until_word(text: str, position: int, stop: int, nest: list[str]) -> int:
    at = re.compile(rf"^[ \t]*{re.escape(nest[-1][2:])}[ \t]*$", re.MULTILINE).search(
        text, position, stop
    )
    if at is None:
        return stop
    nest.pop()
    return at.end()
