"""The given settings: a tree of values that know their names and places, and the problems found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine.plain import shorten
from engine.spec.draft import Node
from engine.spec.model import Place
from engine.spec.reader import read


class Wrong(Exception):
    """The rest of a sentence that begins with the setting's name; empty if already reported."""


@dataclass(frozen=True, slots=True)
class Given:
    """One given value: its full name and the place of its name."""

    name: str
    node: Node
    place: Place
    reading: Reading

    @property
    def loose_text(self) -> str | None:
        """The text of an untyped value, as in the environment."""
        value = self.node.value
        return value if isinstance(value, str) and not self.node.place.line else None

    def entries(self) -> Iterator[tuple[str, Given]]:
        """The entries of this mapping. Raises Wrong when it is not a mapping."""
        node: Node | None = self.node
        if self.node.value is None:
            return
        if self.loose_text is not None:
            node = read(str(self.place), self.loose_text).root
            if node is None or not isinstance(node.value, dict):
                raise Wrong("must be a mapping, written as JSON in the environment")
        if node is None or not isinstance(node.value, dict):
            key = self.name.rpartition(".")[2]
            raise Wrong(f"must be a mapping; an empty one is `{key}: {{}}`")
        for key, inner in node.value.items():
            name = f"{self.name}.{key}" if self.name else key
            yield key, replace(self, name=name, node=inner, place=node.keys.get(key, inner.place))

    def at(self, *keys: str) -> Given:
        """The value under these nested keys."""
        return dict(self.entries())[keys[0]].at(*keys[1:]) if keys else self

    def refuse(self, sentence: str) -> None:
        self.reading.refused.add(self.name)
        self.reading.problems.append(f"{self.place}: {sentence}".removeprefix(": "))

    def tell(self, problem: Wrong) -> None:
        self.reading.refused.add(self.name)
        if str(problem):
            self.refuse(f"{self.name} {problem}")

    @property
    def shown(self) -> str:
        """The value as written, for a message."""
        is_plain = isinstance(self.node.value, str | int | float)
        return shorten(self.node.text if is_plain else self.node.kind)


@dataclass(frozen=True, slots=True)
class Reading:
    """The state of reading: the base of relative paths, and the problems so far."""

    locate: Callable[[str], Path] = Path
    problems: list[str] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    def parse(self, file: str, text: bytes) -> Node:
        """The mapping of settings in a file; an empty one for an empty file."""
        document = read(file, text)
        self.problems.extend(f"{problem.place}: {problem.message}" for problem in document.problems)
        root = document.root
        if root is None or isinstance(root.value, dict):
            return root or empty(file)
        if root.value is not None:
            self.problems.append(f"{root.place}: the file must hold a mapping of settings.")
        return empty(file)

    def given(self, root: Node) -> Given:
        return Given("", root, root.place, self)


def empty(place: str) -> Node:
    return Node({}, Place(place))


def override(root: Node, environ: Mapping[str, str], prefix: str) -> Node:
    """`root` with PREFIX__SECTION__KEY in place of `section.key`."""
    for variable in sorted(name for name in environ if name.startswith(prefix)):
        path = variable.removeprefix(prefix).lower().split("__")
        text = environ[variable]
        root = _put(root, path, Node(text, Place(variable), text))
    return root


def _put(root: Node | None, path: list[str], node: Node) -> Node:
    if not path:
        return node
    if root is None or not isinstance(root.value, dict):
        root = Node({}, node.place)
    assert isinstance(root.value, dict)
    pairs, keys = dict(root.value), dict(root.keys)
    put = _put(pairs.pop(path[0], None), path[1:], node)  # last, so that it wins over an older name
    pairs[path[0]] = put
    keys[path[0]] = keys.get(path[0], put.place) if path[1:] else put.place
    return Node(pairs, root.place, keys=keys)


class Section(Mapping[str, Any]):
    """A mapping of settings declared elsewhere: plain values that know their places."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self._entries = dict(given.entries())

    def __getitem__(self, key: str) -> Any:
        return self._entries[key].node.plain()

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def as_node(value: Any) -> Node:
    """Plain values as a tree without places."""
    if isinstance(value, Mapping):
        return Node({str(key): as_node(inner) for key, inner in value.items()}, Place())
    if isinstance(value, list | tuple):
        return Node(tuple(map(as_node, value)), Place())
    return Node(value, Place(), str(value))
