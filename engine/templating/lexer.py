"""Cuts a template into text and tags, and tags into tokens, by the rules of Tera 1.x.

Tera's strings stand in double, single or back quotes and know no escapes; its names are ASCII; text
keeps its line ends. Two things that Tera refuses pass as text here, since scripts are full of them:
`{{"key": ...` (the way an f-string writes a JSON object) and the shell's `${#name}`, as long as no
comment ends after it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from engine.errors import TemplateError
from engine.templating.budget import DEFAULT, TAG_PRICE
from engine.templating.values import I64_MAX, WHITESPACE

MAX_TOKENS = 20_000

TokenKind = Literal["path", "tail", "int", "float", "string", "op"]

MARKER = re.compile(r"\{[{%#]")
_TAG = re.compile(r"\{[{%]")
_END = {"{{": "}}", "{%": "%}"}
_OBJECT = re.compile(r"""\s*("[^"\n]*"|'[^'\n]*')\s*:(?!:)""")
_RAW = re.compile(r"\{%(-?)\s*raw\s*(-?)%\}")
_END_RAW = re.compile(r"\{%(-?)\s*endraw\s*(-?)%\}")
_SPACE = re.compile(r"[ \t\r\n]+")
_TOKEN = re.compile(
    r"(?P<path>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z0-9_]+)*)"
    r"|(?P<float>(?:0|[1-9][0-9]*)\.[0-9]+)(?![A-Za-z0-9_.])"
    r"|(?P<int>0|[1-9][0-9]*)(?![A-Za-z0-9_.])"
    r"""|(?P<string>"[^"]*"|'[^']*'|`[^`]*`)"""
    r"|(?P<op>==|!=|<=|>=|::|[<>+\-*/%~|()\[\],=])"
)
_TAIL = re.compile(r"(?:\.[A-Za-z0-9_]+)+")


class TemplateSyntaxProblem(TemplateError):
    """Carries the line on which the text cannot be understood."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def price(text: str) -> int:
    """How much work it is to understand a template: the length of its tags, and something for
    each."""
    if len(text) > DEFAULT.template_bytes:
        return TAG_PRICE  # refused for its length alone
    found, at = TAG_PRICE, 0
    while True:
        begin = _TAG.search(text, at)
        end = text.find(_END[begin[0]], begin.end()) if begin else -1
        if begin is None or end < 0:
            return found
        found += end - begin.start() + TAG_PRICE
        at = end + 2


@dataclass(frozen=True, slots=True)
class Token:
    kind: TokenKind
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Text:
    value: str
    line: int


@dataclass(frozen=True, slots=True)
class Tag:
    """`{{ ... }}` when it prints, else `{% ... %}`. `start` and `end` are its place in the
    template."""

    prints: bool
    tokens: tuple[Token, ...]
    line: int
    start: int
    end: int


Segment = Text | Tag


class Lexer:
    """One pass over one template."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._line_starts = [0, *(found.end() for found in re.finditer("\n", text))]
        self._tokens = 0

    def line(self, position: int) -> int:
        return bisect_right(self._line_starts, position)

    def fail(self, message: str, position: int) -> TemplateSyntaxProblem:
        return TemplateSyntaxProblem(message, self.line(position))

    def segments(self) -> Iterator[Segment]:
        text, position, begin, trims = self.text, 0, 0, False
        while True:
            found = MARKER.search(text, position)
            start = found.start() if found else len(text)
            if found and self._is_text(start):
                position = start + 2
                continue
            opens_trimmed = text.startswith("-", start + 2)
            value = text[begin:start]
            value = value.lstrip(WHITESPACE) if trims else value
            value = value.rstrip(WHITESPACE) if found and opens_trimmed else value
            if value:
                yield Text(value, self.line(begin))
            if not found:
                return
            segment, position, trims = self._tag(start, start + 2 + opens_trimmed)
            begin = position
            if segment:
                yield segment

    def _is_text(self, start: int) -> bool:
        if self.text.startswith("{{", start):
            return _OBJECT.match(self.text, start + 2) is not None
        return self.text.startswith("${#", start - 1) and self.text.find("#}", start + 2) < 0

    def _tag(self, start: int, inside: int) -> tuple[Segment | None, int, bool]:
        """The segment that begins at `start`, where it ends, and whether the text behind loses its
        leading space."""
        text = self.text
        if text.startswith("{#", start):
            end = text.find("#}", start + 2)
            if end < 0:
                raise self.fail(
                    "'{#' opens a comment that never ends; write {% raw %}{#{% endraw %} for the"
                    " text",
                    start,
                )
            return None, end + 2, text.startswith("-#}", end - 1) and end > inside
        if raw := _RAW.match(text, start):
            finish = _END_RAW.search(text, raw.end())
            if not finish:
                raise self.fail("{% raw %} has no {% endraw %}", start)
            value = text[raw.end() : finish.start()]
            value = value.lstrip(WHITESPACE) if raw[2] else value
            value = value.rstrip(WHITESPACE) if finish[1] else value
            return Text(value, self.line(raw.end())), finish.end(), bool(finish[2])
        prints = text.startswith("{{", start)
        tokens, end, trims = self._tokens_of(inside, "}}" if prints else "%}", start)
        return Tag(prints, tuple(tokens), self.line(start), start, end), end, trims

    def _tokens_of(self, position: int, closing: str, start: int) -> tuple[list[Token], int, bool]:
        text, tokens = self.text, list[Token]()
        while True:
            if space := _SPACE.match(text, position):
                position = space.end()
            if text.startswith(closing, position):
                return tokens, position + 2, False
            if text.startswith("-" + closing, position):
                return tokens, position + 3, True
            if position >= len(text):
                raise self.fail(f"'{text[start : start + 2]}' has no closing '{closing}'", start)
            token, position = self._token(position, tokens[-1] if tokens else None, closing)
            tokens.append(token)
            self._tokens += 1
            if self._tokens > MAX_TOKENS:
                raise self.fail("the template is too long; move its logic into a script", start)

    def _token(self, position: int, before: Token | None, closing: str) -> tuple[Token, int]:
        text, line = self.text, self.line(position)
        if (
            before
            and before.value == "]"
            and before.kind == "op"
            and (tail := _TAIL.match(text, position))
        ):
            return Token("tail", tail[0], line), tail.end()
        sign = self._is_sign(position, before)
        found = _TOKEN.match(text, position + sign)
        if not found or (sign and found.lastgroup not in ("int", "float")):
            raise self.fail(self._complaint(position, closing), position)
        value, kind = found[0], found.lastgroup
        if kind == "string":
            return Token("string", value[1:-1], line), found.end()
        if kind == "int":
            value = "-" + value if sign else value
            if not -I64_MAX - 1 <= _number(value) <= I64_MAX:
                raise self.fail("a whole number does not fit into 64 bits", position)
            return Token("int", value, line), found.end()
        if kind == "float":
            if len(value) > 300:
                raise self.fail("a number has too many digits", position)
            return Token("float", "-" + value if sign else value, line), found.end()
        return Token("path" if kind == "path" else "op", value, line), found.end()

    def _is_sign(self, position: int, before: Token | None) -> bool:
        """Whether a minus belongs to the number behind it: `-` is no operator on a single value."""
        if (
            not self.text.startswith("-", position)
            or not self.text[position + 1 : position + 2].isdigit()
        ):
            return False
        return (
            before is None
            or (before.kind == "op" and before.value not in (")", "]"))
            or before.value in _WORDS
        )

    def _complaint(self, position: int, closing: str) -> str:
        char = self.text[position]
        if char in "\"'`":
            return f"a string that begins with {char} does not end"
        if char == ".":
            return "a name, a number or a closing bracket was expected at '.'"
        if char == "{":
            return (
                "'{' cannot stand in an expression; write {% raw %} around text that is full of"
                " braces"
            )
        if char in "%}":
            return f"{char!r} cannot stand here; the tag ends with '{closing}'"
        if char.isdigit():
            return "a number is written like 12 or 1.5"
        return (
            f"{char!r} cannot stand here"
            if char.isprintable()
            else "a control character cannot stand here"
        )


_WORDS = frozenset({"and", "or", "not", "in", "is", "if", "elif"})


def _number(digits: str) -> int:
    return int(digits) if len(digits) < 30 else I64_MAX + 1
