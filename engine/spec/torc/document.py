"""One specification file as a tree: the notation is told by the file's suffix, else by what the
text is."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from engine.spec import reader
from engine.spec.problems import Problems, TooManyErrors
from engine.spec.reader import Document, Node
from engine.spec.torc import json5, kdl
from engine.spec.torc.kdl_shape import shape
from engine.spec.torc.scanner import Refusal

YAML, JSON, KDL = (".yaml", ".yml"), (".json", ".json5"), (".kdl",)
_FOREIGN = frozenset({"tasks", "triggers", "workflow_actions"})
_KDL_JOB = re.compile(rb"^[ \t]*job[ \t]+(\"|#|r)", re.MULTILINE)


def is_candidate(path: str, content: bytes) -> bool:
    """Whether a file that is no YAML may be a specification, without reading it all: a folder holds
    other JSON too."""
    suffix = PurePosixPath(path).suffix.lower()
    if len(content) > reader.Limits().size_bytes:
        return False
    if suffix in KDL:
        return _KDL_JOB.search(content) is not None
    return suffix in JSON and b"jobs" in content and b"command" in content


def is_specification(root: Node | None) -> bool:
    """Whether a tree is a Torc specification: it lists jobs, and has nothing that only our own
    files have."""
    if root is None or not isinstance(root.value, dict):
        return False
    jobs = root.value.get("jobs")
    return jobs is not None and isinstance(jobs.value, tuple) and _FOREIGN.isdisjoint(root.value)


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
    fitting = [document for document in tried if is_specification(document.root)]
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
