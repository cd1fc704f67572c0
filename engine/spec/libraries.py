"""Libraries: actions, tasks and connection types of another repository or folder, under its name.

Their files lie in the workspace's tree, below `.libraries/NAME/`. What they define becomes
`NAME.thing` before anything is read, so that all rules apply to it, with places in its own files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping

from engine.plain import shorten
from engine.spec.draft import Named, Node, Problems
from engine.spec.entry import Entry
from engine.spec.fields import ALIASES, HOOK_LISTS, LIBRARY_FIELDS, PRIMITIVES
from engine.spec.model import Library, Place

FOLDER = ".libraries"
DIR_VARIABLE = "STROEM_LIBRARY_DIR"
IMPORTED = ("actions", "tasks", "connection_types")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_LEFT = (
    "secrets", "connections", "triggers", "mcp_servers", "slurm_schedulers", "settings", "exports",
    *HOOK_LISTS,
)  # fmt: skip
Change = Callable[[Node], Node]


def read_library(entry: Entry, place: Place) -> Library:
    entry.refuse_unknown(LIBRARY_FIELDS)
    url, path, ref = entry.text("url"), entry.text("path"), entry.text("ref")
    if (url is None) == (path is None):
        message = (
            f"{entry.subject} needs either 'url', the address of a git repository, or 'path', a"
            " folder"
        )
        entry.problems.error(place, "library", message)
    elif path is not None and ref is not None:
        entry.complain("ref", "is for git repositories; a folder has none", "library")
    return Library(url or "", ref or "", path or "", place=place)


def read_named(
    name: str, entry: Entry, place: Place, *, own: str, fetched: Container[str]
) -> Library:
    """The library of this name. `own`: the workspace's name; `fetched`: libraries with files in the
    tree."""
    library = read_library(entry, place)
    if not NAME.fullmatch(name):
        message = (
            f"Library name '{shorten(name)}' may contain only letters, digits, '-' and '_', and"
            " at most 60 of them"
        )
        entry.problems.error(place, "name", message)
    elif name == own:
        message = f"Library '{name}' has the name of this workspace; give it another one"
        entry.problems.error(place, "name", message)
    elif library.is_complete and name not in fetched:
        message = f"Library '{name}' has no workflow files, or was not fetched"
        entry.problems.error(place, "library", message)
    return library


def adopt(library: str, top: Entry, problems: Problems) -> Mapping[str, dict[str, Named]]:
    """What a file of the library defines, by section, under the names that the workspace uses."""
    for key in _LEFT:
        if top.get(key) is not None:
            message = f"'{key}' of library '{library}' is not imported: a workspace has its own"
            problems.warning(top.at(key), "library", message)
    if top.get("libraries") is not None:
        message = f"library '{library}' has libraries of its own, which is not supported"
        problems.error(top.at("libraries"), "library", message)
    renaming = _Renaming(library, problems)
    found: dict[str, dict[str, Named]] = {}
    for section in IMPORTED:
        node = top.mapping(section)
        if node is not None and isinstance(node.value, dict):
            change = {"actions": renaming.action, "tasks": renaming.task}.get(section, _same)
            found[section] = {
                f"{library}.{name}": Named(node.keys[name], change(inner))
                for name, inner in node.value.items()
            }
    return found


def _same(node: Node) -> Node:
    return node


class _Renaming:
    """Changes the names in the tree of a file to those that the workspace uses."""

    def __init__(self, library: str, problems: Problems) -> None:
        self._library = library
        self._problems = problems

    def task(self, task: Node) -> Node:
        changes: dict[str, Change] = {"input": self._fields, "flow": _each(self._step)}
        changes |= dict.fromkeys(HOOK_LISTS, _each(_at({"action": self._name})))
        return _at(changes)(task)

    def _step(self, step: Node) -> Node:
        is_inline = isinstance(step.value, dict) and "type" in step.value
        return self.action(step) if is_inline else _at({"action": self._name})(step)

    def action(self, action: Node) -> Node:
        changes: dict[str, Change] = {
            "task": self._name,
            "source": self._path,
            "workdir": self._path,
            "input": self._fields,
            "tools": _each(_at({"task": self._name})),
        }
        changed = _at(changes)(action)
        if not isinstance(changed.value, dict):
            return changed
        kind = changed.value.get("type")
        if kind is None or kind.text != "script":
            return changed
        folder = _text(f"{FOLDER}/{self._library}", kind)
        env = changed.value.get("env") or Node({}, kind.place)
        if isinstance(env.value, dict):
            env = Node({DIR_VARIABLE: folder, **env.value}, env.place, keys=_keys(env, kind.place))
        return Node(
            {**changed.value, "env": env}, changed.place, keys={"env": kind.place, **changed.keys}
        )

    def _name(self, node: Node) -> Node:
        if not isinstance(node.value, str):
            return node
        if "." in node.value:
            message = (
                f"library '{self._library}' uses '{shorten(node.value)}': a library may use only"
                " what it defines itself"
            )
            self._problems.error(node.place, "library", message)
            return node
        return _text(f"{self._library}.{node.value}", node)

    def _path(self, node: Node) -> Node:
        if not isinstance(node.value, str):
            return node
        return _text(f"{FOLDER}/{self._library}/{node.value}", node)

    def _fields(self, node: Node) -> Node:
        return _each(_at({"type": self._type}))(node)

    def _type(self, node: Node) -> Node:
        is_own = isinstance(node.value, str) and node.value not in (*PRIMITIVES, *ALIASES)
        return _text(f"{self._library}.{node.value}", node) if is_own else node


def _keys(node: Node, place: Place) -> dict[str, Place]:
    return {DIR_VARIABLE: place, **node.keys}


def _text(text: str, like: Node) -> Node:
    return Node(text, like.place, text)


def _at(changes: Mapping[str, Change]) -> Change:
    """Changes the values of these keys of a mapping."""

    def change(node: Node) -> Node:
        if not isinstance(node.value, dict):
            return node
        value = {
            key: changes[key](inner) if key in changes else inner
            for key, inner in node.value.items()
        }
        return Node(value, node.place, node.text, node.keys)

    return change


def _each(change: Change) -> Change:
    """Changes each item of a list, or each value of a mapping."""

    def change_all(node: Node) -> Node:
        if isinstance(node.value, tuple):
            return Node(tuple(map(change, node.value)), node.place, node.text, node.keys)
        if isinstance(node.value, dict):
            value = {key: change(inner) for key, inner in node.value.items()}
            return Node(value, node.place, node.text, node.keys)
        return node

    return change_all
