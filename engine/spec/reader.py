"""YAML text -> a tree of nodes with places, or problems with places.

Works on the parser's events, not on composed nodes: a hostile document is refused while it is read,
before it expands. Scalars follow YAML 1.2's core schema, decimals only: `true`, `false`, `null`,
whole numbers and floats; `no`, `22:30`, `0777` and dates stay text, and so do digits too large for
a number (`12e4567` is a commit). Anything that is not JSON (tags, NaN, non-text keys) is refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from engine.plain import shorten
from engine.spec.draft import LIMITS, Document, Limits, Node
from engine.spec.model import Place, Problem
from engine.spec.problems import error

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+\Z")
_NOT_FINITE = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z")
_WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_BIGGEST = 2**63 - 1


def read(file: str, text: str | bytes, limits: Limits = LIMITS) -> Document:
    """The document in `text`; never raises. Also reads JSON, which is YAML."""
    try:
        clean = decode(file, text, limits)
        _refuse_characters(file, clean, limits)
        building = _Building(file, clean, limits)
        root = building.build(yaml.parse(clean, Loader=_LOADER))
    except Refusal as refusal:
        return Document(None, (refusal.problem,))
    except yaml.MarkedYAMLError as trouble:
        return Document(None, (_explain(file, clean, trouble),))
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as trouble:
        return Document(
            None,
            (error(Place(file, 1, 1), "syntax", f"this is not YAML: {shorten(trouble, 120)}"),),
        )
    return Document(None if building.problems else root, tuple(building.problems))


class Refusal(Exception):
    """The text cannot be read beyond this place."""

    def __init__(self, place: Place, code: str, message: str) -> None:
        self.problem = error(place, code, message)
        super().__init__(message)


def decode(file: str, raw: str | bytes, limits: Limits) -> str:
    """The text of a file; raises Refusal when it is too large or not UTF-8."""
    if len(raw) > limits.size_bytes:
        raise _too_big(file, limits)
    if isinstance(raw, str):
        return raw.removeprefix("\ufeff")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as trouble:
        before = raw[: trouble.start].decode("utf-8", "replace")
        place = _place_at(file, before, len(before))
        message = "the file is not UTF-8 from here on; save it as UTF-8"
        raise Refusal(place, "encoding", message) from None


def _too_big(file: str, limits: Limits) -> Refusal:
    message = f"the file is larger than {limits.size_bytes:,} bytes; split it"
    return Refusal(Place(file, 1, 1), "too-big", message)


def _refuse_characters(file: str, text: str, limits: Limits) -> None:
    """Report characters not allowed in YAML."""
    bad = _UNPRINTABLE.search(text)
    if bad:
        what = (
            "half of a surrogate pair" if "\ud800" <= bad[0] <= "\udfff" else "a control character"
        )
        message = f"{what} (U+{ord(bad[0]):04X}) is not allowed in YAML; remove it"
        raise Refusal(_place_at(file, text, bad.start()), "character", message)
    if len(text) * 4 > limits.size_bytes and len(text.encode()) > limits.size_bytes:
        raise _too_big(file, limits)


def _place_at(file: str, text: str, position: int) -> Place:
    return Place(
        file, text.count("\n", 0, position) + 1, position - (text.rfind("\n", 0, position) + 1) + 1
    )


@dataclass(slots=True)
class _Measure:
    """The cost of a node with all its aliases expanded."""

    nodes: int = 1
    letters: int = 0
    height: int = 0

    def add(self, other: _Measure) -> None:
        self.nodes += other.nodes
        self.letters += other.letters
        self.height = max(self.height, other.height + 1)


@dataclass(slots=True)
class _Open:
    """A collection whose end event is still to come."""

    place: Place
    anchor: str | None
    is_mapping: bool
    measure: _Measure
    items: list[Node] = field(default_factory=list)
    pairs: dict[str, Node] = field(default_factory=dict)
    keys: dict[str, Place] = field(default_factory=dict)
    merges: list[Node] = field(default_factory=list)
    key: str | None = None  # read, its value not yet
    is_merge: bool = False  # the key is `<<`


class _Building:
    """Builds the tree from events, counting as it goes."""

    def __init__(self, file: str, text: str, limits: Limits) -> None:
        self.file, self.text, self.limits = file, text, limits
        self.problems: list[Problem] = []
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Node, _Measure]] = {}
        self.open_anchors: list[str] = []
        self.total = _Measure(nodes=0)
        self.aliases = 0
        self.root: Node | None = None

    def build(self, events: Iterator[Any]) -> Node | None:
        documents = 0
        for event in events:
            match event:
                case yaml.DocumentStartEvent():
                    documents += 1
                    if documents > 1:
                        message = "a second document begins here; keep one document in a file"
                        raise Refusal(self._place(event), "documents", message)
                case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                    self._begin(event, isinstance(event, yaml.MappingStartEvent))
                case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                    self._end()
                case yaml.ScalarEvent():
                    self._scalar(event)
                case yaml.AliasEvent():
                    self._alias(event)
        return self.root

    def _place(self, event: Any) -> Place:
        return Place(self.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _awaits_key(self) -> bool:
        return bool(self.stack) and self.stack[-1].is_mapping and self.stack[-1].key is None

    def _refuse_tag(self, event: Any) -> None:
        if event.tag is not None:
            message = f"the tag '{shorten(event.tag)}' is not allowed; write the plain value"
            raise Refusal(self._place(event), "tag", message)

    def _charge(self, place: Place, nodes: int, letters: int, height: int) -> None:
        """Count a node (or, for an alias, the content it expands to) against the limits."""
        self.total.nodes += nodes
        self.total.letters += letters
        if self.total.nodes > self.limits.nodes:
            message = (
                f"the file holds more than {self.limits.nodes:,} values (with aliases expanded);"
                " split it"
            )
            raise Refusal(place, "too-big", message)
        if self.total.letters > self.limits.size_bytes:
            message = (
                f"the file is larger than {self.limits.size_bytes:,} bytes with its aliases"
                " expanded"
            )
            raise Refusal(place, "too-big", message)
        if len(self.stack) + height > self.limits.depth:
            raise Refusal(
                place, "too-deep", f"values are nested deeper than {self.limits.depth} levels here"
            )

    def _begin(self, event: Any, is_mapping: bool) -> None:
        place = self._place(event)
        self._refuse_tag(event)
        if self._awaits_key():
            if self.text[event.start_mark.index : event.start_mark.index + 1] == "{":
                message = (
                    'a mapping cannot be a key; if this is a template, put it in quotes: "{{ … }}"'
                )
            else:
                message = "a list or a mapping cannot be a key; keys are text"
            raise Refusal(place, "key", message)
        self._charge(place, 1, 0, 1)
        self.stack.append(_Open(place, event.anchor, is_mapping, _Measure(height=1)))
        if event.anchor:
            self.open_anchors.append(event.anchor)

    def _end(self) -> None:
        done = self.stack.pop()
        if done.anchor:
            self.open_anchors.pop()
        for merged in done.merges:
            self._merge(done, merged)
        value: tuple[Node, ...] | dict[str, Node] = (
            done.pairs if done.is_mapping else tuple(done.items)
        )
        self._place_node(Node(value, done.place, "", done.keys), done.measure, done.anchor)

    def _merge(self, into: _Open, merged: Node) -> None:
        """`<<`: the other mapping's keys, unless this one has them."""
        parts = merged.value if isinstance(merged.value, tuple) else (merged,)
        for part in parts:
            if not isinstance(part.value, dict):
                message = f"'<<' takes a mapping or a list of mappings, not {part.kind}"
                raise Refusal(part.place, "merge", message)
            for key, node in part.value.items():
                if key not in into.pairs:
                    into.pairs[key] = node
                    into.keys[key] = part.keys[key]

    def _scalar(self, event: Any) -> None:
        place = self._place(event)
        self._refuse_tag(event)
        if "\0" in event.value:
            raise Refusal(place, "character", "a NUL character is not allowed; remove it")
        if self._awaits_key():
            self._key(event, place)
            return
        value = _resolve(event.value, place) if event.implicit[0] else event.value
        measure = _Measure(1, len(event.value), 0)
        self._charge(place, 1, measure.letters, 0)
        self._place_node(Node(value, place, event.value), measure, event.anchor)

    def _key(self, event: Any, place: Place) -> None:
        frame = self.stack[-1]
        key: str = event.value
        frame.measure.letters += len(key)
        self._charge(place, 0, len(key), 0)
        frame.is_merge = key == "<<" and event.implicit[0]
        if frame.is_merge:
            self._count_alias(place)
        elif key == "" and event.implicit[0]:
            raise Refusal(place, "key", "a key is missing before this ':'")
        elif key in frame.keys:
            message = (
                f"the key '{shorten(key)}' appears twice (first at {frame.keys[key]}); keep one"
            )
            self.problems.append(error(place, "duplicate-key", message))
        else:
            frame.keys[key] = place
        frame.key = key

    def _count_alias(self, place: Place) -> None:
        self.aliases += 1
        if self.aliases > self.limits.aliases:
            message = f"the file uses more than {self.limits.aliases} aliases and merge keys"
            raise Refusal(place, "aliases", message)

    def _alias(self, event: Any) -> None:
        place = self._place(event)
        if self._awaits_key():
            raise Refusal(
                place,
                "key",
                f"the alias '*{shorten(event.anchor)}' cannot be a key; write the key out",
            )
        self._count_alias(place)
        if event.anchor in self.open_anchors:
            raise Refusal(
                place,
                "aliases",
                f"the alias '*{shorten(event.anchor)}' refers to a value that contains it",
            )
        if event.anchor not in self.anchors:
            message = (
                f"the alias '*{shorten(event.anchor)}' is not defined above (text with a '*' needs"
                " quotes)"
            )
            raise Refusal(place, "aliases", message)
        node, measure = self.anchors[event.anchor]
        self._charge(place, measure.nodes, measure.letters, measure.height)
        self._place_node(node, measure, None)

    def _place_node(self, node: Node, measure: _Measure, anchor: str | None) -> None:
        if anchor:
            self.anchors[anchor] = (node, measure)
        if not self.stack:
            self.root = node
            return
        frame = self.stack[-1]
        frame.measure.add(measure)
        if not frame.is_mapping:
            frame.items.append(node)
        elif frame.is_merge:
            frame.merges.append(node)
        elif frame.key is not None and frame.key not in frame.pairs:
            frame.pairs[frame.key] = node
        frame.key, frame.is_merge = None, False


def _resolve(text: str, place: Place) -> bool | int | float | str | None:
    """The value of an unquoted scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if _INTEGER.match(text):
        return text if len(text) > 20 or abs(int(text)) > _BIGGEST else int(text)
    if _FLOAT.match(text) and not _LEADING_ZERO.match(text):
        number = float(text)
        return text if math.isinf(number) else number
    if _NOT_FINITE.match(text):
        raise Refusal(
            place,
            "number",
            f"{text} is a number that cannot be stored; put it in quotes if it is text",
        )
    return text


def _explain(file: str, text: str, trouble: yaml.MarkedYAMLError) -> Problem:
    """The parser's message in words that help to fix the file."""
    mark = trouble.problem_mark or trouble.context_mark
    place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file, 1, 1)
    since = trouble.context_mark
    began = f"line {since.line + 1}, column {since.column + 1}" if since else "above"
    line = text.split("\n")[place.line - 1 : place.line]
    letter = line[0][place.column - 1 : place.column] if line else ""
    problem, context = str(trouble.problem or ""), str(trouble.context or "")
    return error(place, "syntax", _sentence(problem, context, began, letter))


def _sentence(problem: str, context: str, began: str, letter: str) -> str:
    if "cannot start any token" in problem:
        if letter == "\t":
            return "a tab cannot be used for indentation; use spaces"
        return f"text cannot begin with '{letter}' here; put it in quotes"
    if "mapping values are not allowed" in problem:
        return "a ':' is not expected here; quote text that contains ': ', or check the indentation"
    if "quoted scalar" in context and "end of stream" in problem:
        return f"the quote opened at {began} is never closed"
    if "simple key" in context:
        return (
            f"the line at {began} is neither a key with ':' nor part of the text above it; check"
            " the indentation"
        )
    if "block mapping" in context:
        return (
            f"a key of the mapping that begins at {began} was expected here; check the indentation"
            " and the quotes"
        )
    if "block collection" in context:
        return f"a '- ' of the list that begins at {began} was expected here; check the indentation"
    if "flow mapping" in context or "flow sequence" in context:
        closing = "}" if "mapping" in context else "]"
        return f"a ',' or '{closing}' was expected here, for what was opened at {began}"
    if "escape" in problem:
        return (
            'this escape is not known in a text in double quotes; use single quotes, or "\\\\" for'
            " a backslash"
        )
    where = f", {context} that begins at {began}" if context else ""
    return f"this is not YAML: {problem}{where}"
