"""The source line of a problem with a caret under its place. Lines that may hold a secret are not
shown: reports end in logs that many can read."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import replace

from engine.spec.model import Place, Problem

_INDENT = "    "
_BEFORE, _WIDTH = 30, 88  # letters shown before the place, and in all
_LONGEST = 2000  # letters of a line that is looked at
_LINE_END = re.compile(r"\r\n|\r|\n")
_TOP_KEY = re.compile(r"[\"']?([A-Za-z_]+)[\"']?\s*:")
_PRIVATE = ("secrets", "connections", "connection_types", "mcp_servers")
_TEMPLATE = re.compile(r"\{\{.*?\}\}")
_SECRET = re.compile(
    r"(secret|passw|token|key|credential)\w*[\"']?\s*:\s*[\"']*[^\s\"'{}\[,|>]|\bsecrets\b[^.]|ENC\[",
    re.IGNORECASE,
)
_ENCRYPTED = (".sops.yaml", ".sops.yml")


class _Source:
    """The lines of a file. Looked at once, as a hostile file has hundreds of problems."""

    def __init__(self, raw: str | bytes) -> None:
        text = raw if isinstance(raw, str) else raw.decode("utf-8-sig", "replace")
        self.lines = _LINE_END.split(text)
        tops = [(at, _TOP_KEY.match(line)) for at, line in enumerate(self.lines)]
        self._tops = [(at, found[1]) for at, found in tops if found]

    def excerpt(self, place: Place) -> str:
        line = self.lines[place.line - 1] if place.line <= len(self.lines) else ""
        if not line.strip() or len(line) > _LONGEST or self._is_private(place.line - 1, line):
            return ""
        return _draw(line, place.column - 1)

    def _is_private(self, at: int, line: str) -> bool:
        above = bisect_right(self._tops, at, key=lambda top: top[0])
        section = self._tops[above - 1][1] if above else ""
        return section in _PRIVATE or bool(_SECRET.search(_TEMPLATE.sub("", line)))


def with_excerpts(
    problems: Iterable[Problem], files: Mapping[str, str | bytes]
) -> tuple[Problem, ...]:
    """The problems with their excerpts."""
    sources: dict[str, _Source] = {}
    found = []
    for problem in problems:
        file = problem.place.file
        if problem.place.line and file in files and not file.endswith(_ENCRYPTED):
            if file not in sources:
                sources[file] = _Source(files[file])
            problem = replace(problem, excerpt=sources[file].excerpt(problem.place))
        found.append(problem)
    return tuple(found)


def _draw(line: str, at: int) -> str:
    start = max(0, at - _BEFORE) if len(line) > _WIDTH else 0
    shown = line[start : start + _WIDTH]
    before, after = _printable(shown[: at - start]), _printable(shown[at - start :])
    mark, end = "…" if start else "", "…" if start + _WIDTH < len(line) else ""
    return f"{_INDENT}{mark}{before}{after}{end}\n{_INDENT}{' ' * (len(mark) + len(before))}^"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)
