"""A cursor over a text that knows its places, for notations that no parser with places exists
for."""

from __future__ import annotations

import re
from bisect import bisect_right

from engine.spec.model import Place, Problem
from engine.spec.problems import error, shorten
from engine.spec.reader import Limits


class Refusal(Exception):
    """The text cannot be read on from here."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


def decode(file: str, raw: str | bytes, limits: Limits) -> str:
    """The file's text; raises Refusal when it is too large or no UTF-8."""
    if len(raw) > limits.size_bytes:
        message = f"the file is larger than {limits.size_bytes:,} bytes; split it"
        raise Refusal(error(Place(file, 1, 1), "too-big", message))
    if isinstance(raw, bytes):
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError as trouble:
            line = raw.count(b"\n", 0, trouble.start) + 1
            message = "the file is not UTF-8 from here on; save it as UTF-8"
            raise Refusal(error(Place(file, line, 1), "encoding", message)) from None
    return raw.removeprefix("\ufeff")


class Scanner:
    """Text, how far it was read, and what was counted on the way."""

    def __init__(self, file: str, text: str, limits: Limits) -> None:
        self.file, self.text, self.limits = file, text, limits
        self.at = 0
        self.depth = 0
        self.nodes = 0
        self._starts = [0, *(found.end() for found in re.finditer(r"\r\n|\n|\r", text))]

    @property
    def is_at_end(self) -> bool:
        return self.at >= len(self.text)

    def place(self, at: int | None = None) -> Place:
        position = self.at if at is None else at
        line = bisect_right(self._starts, position)
        return Place(self.file, line, position - self._starts[line - 1] + 1)

    def peek(self, count: int = 1) -> str:
        return self.text[self.at : self.at + count]

    def take(self, wanted: str) -> bool:
        """Go past `wanted` if it stands here."""
        if self.text.startswith(wanted, self.at):
            self.at += len(wanted)
            return True
        return False

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """Go past what `pattern` matches here; None when it does not."""
        found = pattern.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def fail(self, message: str, at: int | None = None, code: str = "syntax") -> Refusal:
        return Refusal(error(self.place(at), code, message))

    def unexpected(self, wanted: str) -> Refusal:
        found = "the end of the file" if self.is_at_end else f"'{shorten(self.peek(), 10)}'"
        return self.fail(f"{wanted} was expected here, not {found}")

    def count(self) -> None:
        """One more value; raises Refusal beyond what a file may hold."""
        self.nodes += 1
        if self.nodes > self.limits.nodes:
            raise self.fail(
                f"the file holds more than {self.limits.nodes:,} values; split it", code="too-big"
            )

    def descend(self) -> None:
        self.depth += 1
        if self.depth > self.limits.depth:
            raise self.fail(
                f"values are nested deeper than {self.limits.depth} levels here", code="too-deep"
            )

    def ascend(self) -> None:
        self.depth -= 1
