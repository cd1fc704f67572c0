"""What reading produces, with places: the problems, the tree of one file, and the draft of a
workspace for the checks."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Set
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from engine.plain import shorten
from engine.spec.model import Action, Place, Problem, Workspace
from engine.spec.problems import error, warning
from engine.spec.written import Written, is_exact

_NOT_OF_TORC = frozenset({"tasks", "triggers", "workflow_actions"})
_NO_KEYS: Mapping[str, Place] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one file. Nodes and text are counted with aliases expanded."""

    size_bytes: int = 1_000_000
    nodes: int = 70_000
    depth: int = 50
    aliases: int = 100


LIMITS = Limits()
MOST_PROBLEMS = 500


class TooManyErrors(Exception):
    """Too many errors: reading must stop."""


class Problems:
    """The problems so far; the same message at the same place counts once.

    Raises TooManyErrors at the five hundredth error, so that a hostile file cannot keep us busy.
    The first five hundred warnings are kept.
    """

    def __init__(self) -> None:
        self._errors: dict[Problem, None] = {}
        self._warnings: dict[Problem, None] = {}
        self._is_cut = False

    def add(self, problem: Problem) -> None:
        if problem.severity == "error":
            self._errors[problem] = None
            if len(self._errors) >= MOST_PROBLEMS:
                raise TooManyErrors
        elif len(self._warnings) < MOST_PROBLEMS:
            self._warnings[problem] = None
        else:
            self._is_cut = True

    def extend(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            self.add(problem)

    def error(self, place: Place, code: str, message: str) -> None:
        self.add(error(place, code, message))

    def warning(self, place: Place, code: str, message: str) -> None:
        self.add(warning(place, code, message))

    @property
    def has_errors(self) -> bool:
        return bool(self._errors)

    def in_order(self) -> tuple[Problem, ...]:
        """By place; errors before warnings at the same place. The last one says if some are
        missing."""
        found = sorted(
            (*self._errors, *self._warnings),
            key=lambda p: (
                p.place.file,
                p.place.line,
                p.place.column,
                p.severity,
                p.code,
                p.message,
            ),
        )
        if len(self._errors) >= MOST_PROBLEMS:
            words = f"there are {MOST_PROBLEMS} errors and perhaps more; checking stopped"
            found.append(error(found[-1].place, "too-many", words))
        elif self._is_cut:
            words = f"there are more than {MOST_PROBLEMS} warnings; the rest is not shown"
            found.append(warning(found[-1].place, "too-many", words))
        return tuple(found)


@dataclass(slots=True, eq=False)
class Node:
    """One value and its place. `text` is a scalar as written; `keys` holds the place of each key.

    Treat nodes as immutable; they are not frozen because creating a frozen one takes three times as
    long.
    """

    value: bool | int | float | str | tuple[Node, ...] | dict[str, Node] | None
    place: Place
    text: str = ""
    keys: Mapping[str, Place] = field(default_factory=lambda: _NO_KEYS)

    @property
    def kind(self) -> str:
        """The kind of value, for messages."""
        match self.value:
            case None:
                return "nothing"
            case bool():
                return "true or false"
            case int() | float():
                return "a number"
            case str():
                return "text"
            case tuple():
                return "a list"
            case _:
                return "a mapping"

    def plain(self) -> Any:
        """The value as plain JSON types, a fresh copy."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, tuple):
            return [node.plain() for node in self.value]
        if isinstance(self.value, float) and self.text and not is_exact(self.text):
            return Written(self.text)  # for a message: no number holds it
        return self.value

    def as_text(self) -> Any:
        """Where text is wanted: what the author typed instead of a number or true/false, also in a
        list; anything else as it is."""
        if isinstance(self.value, tuple):
            return [node.as_text() for node in self.value]
        return self.text if isinstance(self.value, bool | int | float) else self.plain()


@dataclass(frozen=True, slots=True)
class Document:
    """The result of reading one file: `root` is None when the file is empty or has `problems`."""

    root: Node | None
    problems: tuple[Problem, ...] = ()

    @property
    def is_torc(self) -> bool:
        """Whether it is a Torc specification: it lists jobs and has no keys that only our own files
        have."""
        keys = self.root.value if self.root is not None else None
        if not isinstance(keys, dict) or "jobs" not in keys:
            return False
        return isinstance(keys["jobs"].value, tuple) and _NOT_OF_TORC.isdisjoint(keys)


@dataclass(frozen=True, slots=True)
class Named:
    """An entry of a top-level map: the place of its name, and its node."""

    place: Place
    node: Node


@dataclass(frozen=True, slots=True)
class Draft:
    """`is_complete` is False when a file could not be read: it may define what seems missing."""

    workspace: Workspace
    sections: Mapping[str, Mapping[str, Named]]
    # generated action -> (task, step)
    inline: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    unreadable: Set[str] = frozenset()  # generated actions whose type is unknown
    # task -> steps that could not be read
    broken_steps: Mapping[str, Set[str]] = field(default_factory=dict)
    is_complete: bool = True
    paths: Container[str] | None = None
    name: str = ""
    files: int = 1
    # unsafe templates are errors, by a setting of the server or the workspace
    is_strict: bool = False
    fetched: Container[str] = ()  # libraries with files in the tree
    stored_secrets: Container[str] = ()  # on the server, beside those of the files
    _listed: list[tuple[str, str, Action]] = field(default_factory=list, repr=False)
    sites: list[Any] = field(default_factory=list, repr=False)  # see `sites.find_sites`

    @property
    def is_ascii(self) -> bool:
        """Whether all names of sections, steps and inputs are."""
        groups: list[Iterable[str]] = list(self.sections.values())
        for task in self.workspace.tasks.values():
            groups += task.flow, task.input
        groups += [action.input for action in self.workspace.actions.values()]
        return all(name.isascii() for group in groups for name in group)

    def has(self, section: str, name: str) -> bool:
        return name in self.sections.get(section, {})

    def has_action(self, name: str) -> bool:
        return self.has("actions", name) or name in self.inline or name in self.unreadable

    def node(self, section: str, name: str, *path: str | int) -> Node | None:
        """The value at `path` below an entry."""
        named = self.sections.get(section, {}).get(name)
        found = named.node if named else None
        for part in path:
            value = found.value if found else None
            if isinstance(part, str) and isinstance(value, dict):
                found = value.get(part)
            elif isinstance(part, int) and isinstance(value, tuple) and part < len(value):
                found = value[part]
            else:
                return None
        return found

    def at(self, section: str, name: str, *path: str | int) -> Place:
        """The place of the value at `path` below an entry, or of its nearest existing parent."""
        named = self.sections.get(section, {}).get(name)
        if named is None:
            return Place()
        place, node = named.place, named.node
        for part in path:
            if isinstance(part, str) and isinstance(node.value, dict) and part in node.value:
                place, node = node.keys[part], node.value[part]
            elif isinstance(part, int) and isinstance(node.value, tuple) and part < len(node.value):
                place, node = node.value[part].place, node.value[part]
            else:
                break
        return place

    def indexes(self, section: str, name: str, key: str) -> dict[Place, int]:
        """Place -> index of the items of the list `key` of an entry."""
        entry = self.sections[section][name].node.value
        found = entry[key].value if isinstance(entry, dict) and key in entry else None
        return (
            {node.place: index for index, node in enumerate(found)}
            if isinstance(found, tuple)
            else {}
        )

    def in_action(self, action: str, *path: str | int) -> Place:
        """Like `at`, for an action that may be inline."""
        if action in self.inline:
            task, step = self.inline[action]
            return self.at("tasks", task, "flow", step, *path)
        return self.at("actions", action, *path)

    def action_node(self, action: str, key: str) -> Node | None:
        """The value of a key of an action that may be inline."""
        if action in self.inline:
            task, step = self.inline[action]
            return self.node("tasks", task, "flow", step, key)
        return self.node("actions", action, key)

    def in_step(self, task: str, step: str, *path: str | int) -> Place:
        return self.at("tasks", task, "flow", step, *path)

    def says(self, action: str, key: str) -> bool:
        """Whether the author of `action` wrote `key`, valid or not."""
        return self._said(action, key) is not None

    def means(self, action: str, key: str, words: Container[str]) -> bool:
        """Whether the author omitted `key` or wrote one of `words`."""
        said = self._said(action, key)
        return said is None or said.text in words

    def _said(self, action: str, key: str) -> Node | None:
        if action in self.inline:
            task, step = self.inline[action]
            node = self._step_node(task, step)
        else:
            named = self.sections.get("actions", {}).get(action)
            node = named.node if named else None
        found = node.value.get(key) if node and isinstance(node.value, dict) else None
        return found if found is not None and found.value is not None else None

    def _step_node(self, task: str, step: str) -> Node | None:
        flow = self.sections["tasks"][task].node.value
        steps = flow["flow"].value if isinstance(flow, dict) and "flow" in flow else None
        return steps.get(step) if isinstance(steps, dict) else None

    def subject(self, action: str) -> str:
        """The action's name in messages."""
        if action in self.inline:
            task, step = self.inline[action]
            return step_subject(task, step)
        return f"Action '{shorten(action)}'"

    def actions(self) -> list[tuple[str, str, Action]]:
        """(name, name in messages, action) of every action, including inline ones."""
        if not self._listed:
            self._listed.extend(
                (name, self.subject(name), action)
                for name, action in self.workspace.actions.items()
            )
        return self._listed


def task_subject(task: str) -> str:
    return f"Task '{shorten(task)}'"


def step_subject(task: str, step: str) -> str:
    return f"Task '{shorten(task)}' step '{shorten(step)}'"
