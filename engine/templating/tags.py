"""Reading a tag from left to right, and what its names stand for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from engine.templating.lexer import Tag, TemplateSyntaxProblem, Token
from engine.templating.references import Path

KEYWORDS = frozenset({"and", "or", "not", "in", "is"})
_NOWHERE: frozenset[Path] = frozenset()


class Names:
    """What the names in a template stand for, as far as can be told without running it."""

    def __init__(self) -> None:
        self.paths: set[Path] = set()
        self.filters: set[str] = set()
        self.nesting = 0
        self._local: dict[str, frozenset[Path]] = {}  # loop variables and variables surely set
        self._maybe: dict[str, frozenset[Path]] = {}  # set in a block that may not have run

    def assign(self, name: str, sources: frozenset[Path]) -> None:
        known = self._local if self.nesting == 0 or name in self._local else self._maybe
        known[name] = known.get(name, _NOWHERE) | sources | self._maybe.get(name, _NOWHERE)

    @contextmanager
    def loop(self, names: Sequence[str], sources: frozenset[Path]) -> Iterator[None]:
        kept = dict(self._local)
        self._local.update({name: sources for name in names if name}, loop=_NOWHERE)
        yield
        inner = {name: found for name, found in self._local.items() if name not in (*names, "loop")}
        self._local = {**kept, **{name: found for name, found in inner.items() if name in kept}}

    def read(self, path: Path) -> frozenset[Path]:
        """Notes that a path is read; gives the paths whose text it may hold."""
        if path[0] in self._local:
            return self._local[path[0]]
        self.paths.add(path)
        return frozenset({path}) | self._maybe.get(path[0], _NOWHERE)


class TagReader:
    """The tokens of one tag and the place reached in them."""

    def __init__(self, tag: Tag, names: Names) -> None:
        self._tokens = tag.tokens
        self._at = 0
        self._names = names
        self.line = tag.line
        self.word = ""  # the tag's name, once known

    # --- tokens
    # ----------------------------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> Token | None:
        index = self._at + ahead
        return self._tokens[index] if index < len(self._tokens) else None

    def _is(self, value: str, ahead: int = 0, kind: str = "op") -> bool:
        token = self._peek(ahead)
        return token is not None and token.kind == kind and token.value == value

    def accept(self, value: str, kind: str = "op") -> bool:
        if self._is(value, kind=kind):
            self._at += 1
            return True
        return False

    def fail(self, message: str, token: Token | None = None) -> TemplateSyntaxProblem:
        token = token or self._peek()
        return TemplateSyntaxProblem(message, token.line if token else self.line)

    def _unexpected(self, wanted: str) -> TemplateSyntaxProblem:
        token = self._peek()
        if token is None:
            return self.fail(f"{wanted} was expected before the end of the tag")
        shown = "a string" if token.kind == "string" else f"'{token.value[:40]}'"
        return self.fail(f"{wanted} was expected, not {shown}")

    def expect(self, value: str) -> None:
        if not self.accept(value):
            raise self._unexpected(f"'{value}'")

    def expect_word(self, value: str) -> None:
        if not self.accept(value, "path"):
            raise self._unexpected(f"'{value}'")

    def name(self, wanted: str) -> str:
        token = self._peek()
        if token is None or token.kind != "path" or "." in token.value or token.value in KEYWORDS:
            raise self._unexpected(wanted)
        self._at += 1
        return token.value

    def nothing_more(self) -> None:
        if self._peek() is not None:
            raise self._unexpected("the end of the tag")
