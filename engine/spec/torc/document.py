"""One specification file as a tree; the file's suffix, else the text, determines the notation.

KDL nodes become the mapping that the same specification has in YAML. A child that is a list in YAML
may be written once per item, with one or more arguments. Unknown keys are passed on with their
places, so that they are refused as in the other notations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath

from engine.plain import shorten
from engine.spec import reader
from engine.spec.draft import LIMITS, Document, Node, Problems, TooManyErrors
from engine.spec.model import Place
from engine.spec.reader import Refusal
from engine.spec.torc import json5, kdl
from engine.spec.torc.kdl import KdlNode

# KDL name -> key in YAML; the arguments of all such children form one list
_JOB_LISTS = {
    "depends_on": "depends_on", "depends_on_job": "depends_on",
    "depends_on_regexes": "depends_on_regexes",
    "input_file": "input_files", "input_files": "input_files",
    "input_file_regexes": "input_file_regexes",
    "output_file": "output_files", "output_files": "output_files",
    "output_file_regexes": "output_file_regexes",
    "input_user_data": "input_user_data", "input_user_data_regexes": "input_user_data_regexes",
    "output_user_data": "output_user_data", "output_user_data_regexes": "output_user_data_regexes",
    "use_parameters": "use_parameters",
}  # fmt: skip
_ACTION_LISTS = {
    "job": "jobs", "jobs": "jobs", "job_name_regex": "job_name_regexes",
    "job_name_regexes": "job_name_regexes",
    "command": "commands", "commands": "commands", "needs": "needs",
}  # fmt: skip
_RULE_LISTS = {"exit_code": "exit_codes", "exit_codes": "exit_codes"}
_MAPPINGS = ("parameters", "data")
_PARAMETER_LISTS = {"use_parameters": "use_parameters"}
YAML, JSON, KDL = (".yaml", ".yml"), (".json", ".json5"), (".kdl",)
SUFFIXES = (*JSON, *KDL)
_KDL_JOB = re.compile(rb"^[ \t]*job[ \t]+(\"|#|r)", re.MULTILINE)


def shape(file: str, nodes: Sequence[KdlNode], problems: Problems) -> Node:
    """The document as one mapping."""
    shaping = _Shaping(problems)
    top = _Pairs(Place(file, 1, 1), problems)
    for node in nodes:
        found = shaping.tops.get(node.name)
        if found is None:
            top.set(node.name, node.place, shaping.scalar(node))
        else:
            found(node, top)
    return top.node()


class _Pairs:
    """A mapping under construction."""

    def __init__(self, place: Place, problems: Problems) -> None:
        self._place, self._problems = place, problems
        self._values: dict[str, Node] = {}
        self._lists: dict[str, list[Node]] = {}
        self._keys: dict[str, Place] = {}

    def set(self, key: str, place: Place, value: Node) -> None:
        if key in self._keys:
            message = (
                f"the key '{shorten(key)}' appears twice (first at {self._keys[key]}); keep one"
            )
            self._problems.error(place, "duplicate-key", message)
            return
        self._keys[key], self._values[key] = place, value

    def add(self, key: str, place: Place, values: Sequence[Node]) -> None:
        """Append items to the list `key`."""
        self._keys.setdefault(key, place)
        self._lists.setdefault(key, []).extend(values)

    def node(self) -> Node:
        lists = {key: Node(tuple(items), self._keys[key]) for key, items in self._lists.items()}
        return Node({**self._values, **lists}, self._place, "", self._keys)


class _Shaping:
    """Which child of the document is what."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self.tops: Mapping[str, Callable[[KdlNode, _Pairs], None]] = {
            "job": self._listed("jobs", _JOB_LISTS),
            "file": self._listed("files", _PARAMETER_LISTS),
            "user_data": self._add_user_data,
            "resource_requirements": self._listed("resource_requirements", {}),
            "failure_handler": self._add_handler,
            "slurm_scheduler": self._listed("slurm_schedulers", {}),
            "action": self._add_action,
            "parameters": self._set_mapping,
            "slurm_defaults": self._set_mapping,
            "resource_monitor": self._set_mapping,
        }

    def scalar(self, node: KdlNode) -> Node:
        """The one argument of a node; a node without arguments is a flag that is on."""
        if node.has_block and node.args and node.name not in _MAPPINGS:
            return Node({}, node.place)  # the reader reports that it is unknown or not a mapping
        if node.has_block:
            return self._mapping(node, {})
        if len(node.args) > 1 or node.props:
            values = (*node.args, *node.props.values())
            return Node(values, node.place)
        return node.args[0] if node.args else Node(True, node.place, "true")

    def _listed(self, key: str, lists: Mapping[str, str]) -> Callable[[KdlNode, _Pairs], None]:
        def add(node: KdlNode, top: _Pairs) -> None:
            top.add(key, node.place, [self._mapping(node, lists, names_itself=True)])

        return add

    def _mapping(
        self, node: KdlNode, lists: Mapping[str, str], *, names_itself: bool = False
    ) -> Node:
        """A node's properties and children as a mapping; `names_itself`: its argument is the
        name."""
        pairs = self._begin(node, names_itself)
        for child in node.children:
            if child.name in lists:
                pairs.add(lists[child.name], child.place, child.args)
            else:
                pairs.set(child.name, child.place, self.scalar(child))
        return pairs.node()

    def _begin(self, node: KdlNode, names_itself: bool) -> _Pairs:
        pairs = _Pairs(node.place, self._problems)
        if names_itself and node.args:
            pairs.set("name", node.args[0].place, node.args[0])
        extra = node.args[1:] if names_itself else node.args
        if extra:
            message = (
                f"'{shorten(node.name)}' takes {'one name' if names_itself else 'no value'} before"
                " its '{'"
            )
            self._problems.error(extra[0].place, "syntax", message)
        for key, value in node.props.items():
            pairs.set(key, value.place, value)
        return pairs

    def _set_mapping(self, node: KdlNode, top: _Pairs) -> None:
        top.set(node.name, node.place, self._mapping(node, {}))

    def _add_action(self, node: KdlNode, top: _Pairs) -> None:
        pairs = self._begin(node, names_itself=False)
        for child in node.children:
            if child.name in _ACTION_LISTS:
                pairs.add(_ACTION_LISTS[child.name], child.place, child.args)
            elif child.name == "do":
                pairs.add("do", child.place, [self._mapping(child, _ACTION_LISTS)])
            else:
                pairs.set(child.name, child.place, self.scalar(child))
        top.add("actions", node.place, [pairs.node()])

    def _add_handler(self, node: KdlNode, top: _Pairs) -> None:
        pairs = self._begin(node, names_itself=True)
        for child in node.children:
            if child.name == "rule":
                pairs.add("rules", child.place, [self._mapping(child, _RULE_LISTS)])
            else:
                pairs.set(child.name, child.place, self.scalar(child))
        top.add("failure_handlers", node.place, [pairs.node()])

    def _add_user_data(self, node: KdlNode, top: _Pairs) -> None:
        pairs = self._begin(node, names_itself=True)
        for child in node.children:
            value = self.scalar(child)
            if child.name == "data" and isinstance(value.value, str):
                value = self._json(value)
            pairs.set(child.name, child.place, value)
        top.add("user_data", node.place, [pairs.node()])

    def _json(self, text: Node) -> Node:
        """User data is JSON in a string."""
        document = json5.read(text.place.file, str(text.value))
        if document.root is None:
            for problem in document.problems:
                self._problems.error(
                    text.place, "user-data", f"'data' must be JSON: {problem.message}"
                )
            return Node(None, text.place)
        return document.root


def is_candidate(path: str, content: bytes) -> bool:
    """Whether a non-YAML file may be a specification, without reading it all: folders hold other
    JSON too."""
    suffix = PurePosixPath(path).suffix.lower()
    if len(content) > LIMITS.size_bytes:
        return False
    if suffix in KDL:
        return _KDL_JOB.search(content) is not None
    return suffix in JSON and b"jobs" in content and b"command" in content


def read(file: str, content: str | bytes) -> Document:
    """The file's tree, in whichever of the four notations it is; never raises."""
    suffix = PurePosixPath(file).suffix.lower()
    if suffix in YAML:
        return reader.read(file, content)
    if suffix in JSON:
        return json5.read(file, content)
    if suffix in KDL:
        return _read_kdl(file, content)
    tried = [read_as(file, content) for read_as in (json5.read, reader.read, _read_kdl)]
    fitting = [document for document in tried if document.is_torc]
    return fitting[0] if fitting else tried[1]


def _read_kdl(file: str, content: str | bytes) -> Document:
    problems = Problems()
    try:
        root = shape(file, kdl.read(file, content), problems)
    except Refusal as refusal:
        return Document(None, (refusal.problem,))
    except TooManyErrors:
        return Document(None, problems.in_order())
    return Document(root, problems.in_order())
