"""Static analysis: what a template reads and prints, and where a shell script is within quotes, in
which `sh` would end the quotes instead of quoting."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateSyntaxError

Path = tuple[str, ...]
NOWHERE: frozenset[Path] = frozenset()
VARIABLES = (nodes.Name, nodes.Getattr, nodes.Getitem)

# filters whose result cannot carry code: numbers and harmless text
INERT_FILTERS = frozenset(
    {"int", "float", "length", "wordcount", "round", "abs", "filesizeformat", "slugify"}
)
_QUOTING = {
    "shell": frozenset({"sh"}),
    "python": frozenset({"py", "json", "json_encode"}),
    "javascript": frozenset({"json", "json_encode"}),
    "typescript": frozenset({"json", "json_encode"}),
    "go": frozenset({"json", "json_encode"}),
}
QUOTING_FILTERS = frozenset[str]().union(*_QUOTING.values())

_SHELL_MARK = re.compile(
    r"""\\.|['"`\n()]|\$\(|(?<![^\s;&|(])\#|<<-?[ \t]*"""
    r"""(?P<quote>['"]?)(?P<word>[A-Za-z_]\w*)(?P=quote)""",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class References:
    """`names` are root names, `paths` the dotted paths from them; `is_open` when anything may be
    read. `needed` are the paths without which the template fails.

    Steps are named as in templates, see `context_name`. Names from loops or `set` are not
    references.
    """

    names: frozenset[str] = frozenset()
    paths: frozenset[Path] = frozenset()
    is_open: bool = False
    needed: frozenset[Path] = frozenset()


@dataclass(frozen=True, slots=True)
class Splice:
    """One `{{ ... }}` that writes values into the text around it.

    `sources` are the paths whose text may appear, also through `set` and loops, without numbers and
    booleans. `filter` is the last filter of the expression. `neighbours` are the characters before
    and after the tag, `enclosed` what surrounds it if the text is a shell script, see `enclosures`.
    """

    text: str
    line: int
    sources: frozenset[Path]
    filter: str | None
    neighbours: str
    enclosed: str = ""

    @property
    def quotes(self) -> bool:
        return self.filter in QUOTING_FILTERS

    def is_quoted_for(self, language: str) -> bool:
        """Whether the last filter quotes for this language, and nothing around the tag defeats
        it."""
        if self.filter not in _QUOTING.get(language, frozenset()):
            return False
        return not self.enclosed if language == "shell" else not set(self.neighbours) & set("'\"`")


class Names:
    """What the names in a template stand for, as far as static analysis can tell."""

    def __init__(self) -> None:
        self.paths: set[Path] = set()
        self.filters: set[str] = set()
        self.functions: set[str] = set()
        self.tolerates = False  # at the current place, what is undefined does no harm
        self._bare: set[Path] = set()
        self._tolerated: set[Path] = set()
        self.nesting = 0
        self._local: dict[str, frozenset[Path]] = {}  # loop variables and variables certainly set
        self._maybe: dict[str, frozenset[Path]] = {}  # set in a block that may not have run

    def assign(self, name: str, sources: frozenset[Path]) -> None:
        known = self._local if self.nesting == 0 or name in self._local else self._maybe
        known[name] = known.get(name, NOWHERE) | sources | self._maybe.get(name, NOWHERE)

    @contextmanager
    def loop(self, names: Sequence[str], sources: frozenset[Path]) -> Iterator[None]:
        kept = dict(self._local)
        self._local.update({name: sources for name in names if name}, loop=NOWHERE)
        yield
        inner = {name: found for name, found in self._local.items() if name not in (*names, "loop")}
        self._local = {**kept, **{name: found for name, found in inner.items() if name in kept}}

    def read(self, path: Path) -> frozenset[Path]:
        """Record that a path is read; returns the paths whose text it may hold."""
        if path[0] in self._local:
            return self._local[path[0]]
        self.paths.add(path)
        (self._tolerated if self.tolerates else self._bare).add(path)
        return frozenset({path}) | self._maybe.get(path[0], NOWHERE)

    @property
    def needed(self) -> frozenset[Path]:
        """What is asked for somewhere in the template counts as looked after in all of it."""
        asked = {path[:2] for path in self._tolerated}
        return frozenset(path for path in self._bare if path[:2] not in asked)

    @contextmanager
    def tolerating(self, does: bool) -> Iterator[None]:
        before, self.tolerates = self.tolerates, does
        yield
        self.tolerates = before

    def shown(self, node: nodes.Expr) -> frozenset[Path]:
        """The paths whose text may appear in the value, without numbers and booleans."""
        parts: list[nodes.Expr] = []
        match node:
            case nodes.Name() | nodes.Getattr() | nodes.Getitem():
                return self.read(known_path(steps_of(node)))
            case nodes.List(items=parts) | nodes.Concat(nodes=parts):
                pass
            case nodes.Filter(node=nodes.Expr() as value, name=name, kwargs=kwargs):
                if name in INERT_FILTERS:
                    return NOWHERE
                parts = [value]
                if name != "safe" and (name != "default" or isinstance(value, VARIABLES)):
                    parts += [one.value for one in kwargs]
        return NOWHERE.union(*map(self.shown, parts))


def steps_of(node: nodes.Expr) -> list[str | nodes.Expr]:
    """The name of a variable and its path: names, indices, and other variables."""
    steps, base = list[str | nodes.Expr](), node
    while not isinstance(base, nodes.Name):
        if isinstance(base, nodes.Getattr):
            steps += reversed(base.attr.split("."))
        elif isinstance(base, nodes.Getitem):
            index: Any = base.arg.value if isinstance(base.arg, nodes.Const) else base.arg
            if isinstance(index, bool) or not isinstance(index, (int, str, *VARIABLES)):
                raise TemplateSyntaxError(
                    "brackets hold a number, a string or a variable", node.lineno
                )
            steps.append(str(index) if isinstance(index, int) else index)
        else:
            raise TemplateSyntaxError(
                "brackets belong after a variable; use {% set %} for its value", node.lineno
            )
        base = base.node
    return [*base.name.split("."), *reversed(steps)]


def known_path(steps: list[str | nodes.Expr]) -> Path:
    return tuple(step for step in takewhile(lambda one: isinstance(one, str), steps))  # type: ignore[misc]


def last_filter(node: nodes.Expr | None) -> str | None:
    while isinstance(node, nodes.Filter) and node.name in ("safe", "default"):
        if node.name == "default" and not isinstance(node.node, nodes.Filter):
            return None
        node = node.node
    return node.name if isinstance(node, nodes.Filter) else None


def enclosures(text: str, tags: Sequence[tuple[int, int]]) -> list[str]:
    """For each tag, given by its place, what encloses it: `'`, `"`, a back quote, `<<` (a here
    document), `#` (a comment, which a line break in the value would end), or nothing.

    Parses like a shell, except that it ignores `case` patterns and lets a here document begin at
    once.
    """
    found: list[str] = []
    nest: list[str] = []  # open quotes and parentheses
    position = 0
    for start, end in tags:
        while position < start:
            position = _advance(text, position, start, nest)
        found.append(nest[-1][:2] if nest and nest[-1] != "(" else "")
        position = max(position, end)
    return found


def _advance(text: str, position: int, stop: int, nest: list[str]) -> int:
    """Move past the next mark before `stop`."""
    top = nest[-1] if nest else ""
    if top == "'":
        return _until(text, "'", position, stop, nest)
    if top.startswith("<<"):
        return _until_word(text, position, stop, nest)
    if top == "#":
        return _until(text, "\n", position, stop, nest)
    mark = _SHELL_MARK.search(text, position, stop)
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
