"""What steps remember: the state of a task and of its workspace.

A state is a JSON object and a set of files, in versions. A step leaves a change: the keys that it
has written or removed, and the files if it wrote any. Pure: what a step has changed, what the
change would overwrite unseen, and what comes of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

VALUES_FILE = "state.json"  # in the directories: the values
MOST_VALUE_BYTES = 1_000_000
MOST_FILES, MOST_FILE_BYTES = 10_000, 50 * 1024 * 1024  # of one version
_MOST_NAMES = 5


@dataclass(frozen=True, slots=True)
class StateFile:
    """A file of a state: `blob` names its stored bytes."""

    path: str
    size: int
    digest: str
    is_program: bool = False
    blob: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A state as a step sees it: the newest version when it was claimed. `hidden`: secret values in
    it."""

    version: int = 0
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    files: tuple[StateFile, ...] = ()
    hidden: tuple[str, ...] = field(default=(), repr=False)
    written: Mapping[str, int] = field(
        default_factory=dict
    )  # key -> the version that wrote it last


def names(states: tuple[Seen, Seen]) -> dict[str, Any]:
    """The states of a task and of its workspace, as templates read them."""
    return {"state": states[0].values, "global_state": states[1].values}


@dataclass(frozen=True, slots=True)
class Change:
    """What one attempt leaves of one state. `base` is the version that it saw; None if it saw none,
    and only its lines are known. `files` is the complete new set; None if it wrote none."""

    base: int | None = None
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    removed: tuple[str, ...] = ()
    files: tuple[StateFile, ...] | None = None
    # of keys that were written against a version of their own, whatever the rule of the task
    bases: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not self.values and not self.removed and self.files is None


@dataclass(frozen=True, slots=True)
class Left:
    """What one attempt leaves: of its task, and of its workspace."""

    task: Change = Change()
    workspace: Change = Change()

    @property
    def is_empty(self) -> bool:
        return self.task.is_empty and self.workspace.is_empty


@dataclass(frozen=True, slots=True)
class Kept:
    """A state as it is. `written`: the version that last wrote a key, also of removed ones."""

    version: int = 0
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    written: Mapping[str, int] = field(default_factory=dict)
    files_written: int = 0

    def lost(self, change: Change, base: int) -> list[str]:
        """What the change would overwrite that has come after version `base`, in words."""
        keys = [
            key
            for key in (*change.values, *change.removed)
            if self.written.get(key, 0) > change.bases.get(key, base)
        ]
        words = _named(keys)
        if change.files is not None and self.files_written > base:
            words.append("its files")
        return words

    def broken(self, change: Change) -> list[str]:
        """The keys among them that were written against a version of their own, in words."""
        return _named([k for k, base in change.bases.items() if self.written.get(k, 0) > base])

    def after(self, change: Change) -> Kept:
        """What comes of the change, as the next version."""
        number = self.version + 1
        values = {key: self.values[key] for key in self.values if key not in change.removed}
        touched = dict.fromkeys((*change.values, *change.removed), number)
        return Kept(
            number,
            values | dict(change.values),
            {**self.written, **touched},
            self.files_written if change.files is None else number,
        )


def _named(keys: list[str]) -> list[str]:
    words = [f"key '{key[:40]}'" for key in keys[:_MOST_NAMES]]
    return words + [f"{len(keys) - _MOST_NAMES} more keys"] * (len(keys) > _MOST_NAMES)


def difference(
    before: Mapping[str, Any], whole: Mapping[str, Any] | None, lines: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a step has written and removed: its lines, and where its `state.json` differs from what
    it saw."""
    if whole is None:
        return dict(lines), ()
    written = {
        key: value
        for key, value in whole.items()
        if key not in before or not is_same(before[key], value)
    }
    removed = tuple(key for key in before if key not in whole and key not in lines)
    return written | dict(lines), removed


def is_same(one: Any, other: Any) -> bool:
    """As JSON: 1 and true differ."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@dataclass(frozen=True, slots=True)
class Difference:
    """One line of a comparison of two versions: `key` or the path of a file, with null for what is
    not there. Files are compared by hash."""

    name: str
    is_file: bool
    before: Any = field(repr=False)
    after: Any = field(repr=False)
    what: str = "changed"  # or added, removed


def compare(
    values: tuple[Mapping[str, Any], Mapping[str, Any]],
    files: tuple[Iterable[StateFile], Iterable[StateFile]],
) -> list[Difference]:
    """How two versions differ, keys before files, each by name."""
    found = _compare(*values, is_file=False)
    old, new = ({file.path: file for file in side} for side in files)
    hashes = [{path: file.digest for path, file in side.items()} for side in (old, new)]
    return found + _compare(*hashes, is_file=True)


def _compare(
    before: Mapping[str, Any], after: Mapping[str, Any], *, is_file: bool
) -> list[Difference]:
    found = []
    for name in sorted({*before, *after}):
        if name not in before:
            found.append(Difference(name, is_file, None, after[name], "added"))
        elif name not in after:
            found.append(Difference(name, is_file, before[name], None, "removed"))
        elif not is_same(before[name], after[name]):
            found.append(Difference(name, is_file, before[name], after[name]))
    return found
