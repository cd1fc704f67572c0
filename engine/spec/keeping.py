"""Reads `settings.logs` and `settings.artifacts`: how long and how much a workspace keeps."""

from __future__ import annotations

from engine.spec.artifacts import read_retain
from engine.spec.draft import Named
from engine.spec.entry import Entry
from engine.spec.model import Keeping
from engine.spec.problems import Problems

KEPT = ("logs", "artifacts")
FIELDS = ("retain", "workspace_mb")


def read_keeping(name: str, named: Named, problems: Problems) -> Keeping | None:
    if named.node.value is None:
        return None
    entry = Entry(named.node, f"Setting '{name}'", problems)
    entry.refuse_unknown(FIELDS)
    return Keeping(read_retain(entry), entry.whole("workspace_mb", 1), named.place)
