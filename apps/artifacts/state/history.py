"""What people and programs ask about a state: its versions, how two differ, an older one again."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import IO, Any

from django.db.models import QuerySet

from apps.artifacts import blobs
from apps.artifacts.models import State, StateVersion
from apps.artifacts.state import keeping
from apps.artifacts.state.keeping import Writer
from apps.audit.services import Changes, note
from apps.jobs.database.sql import retried
from engine import state as engine
from engine.errors import NotFound
from engine.state import Change, Difference, StateFile


@dataclass(frozen=True, slots=True)
class Shown:
    """One version as people may see it: secrets are masked. A state that nobody has written to is
    version 0."""

    version: int
    values: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[StateFile, ...] = ()
    row: StateVersion | None = None

    @property
    def size_bytes(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def created_at(self) -> datetime | None:
        return self.row.created_at if self.row else None


def find(workspace_id: int, task_name: str) -> State | None:
    return State.objects.filter(workspace_id=workspace_id, task_name=task_name).first()


def versions(state: State | None) -> QuerySet[StateVersion]:
    """The versions that are kept, newest first."""
    rows = StateVersion.objects.filter(state=state) if state else StateVersion.objects.none()
    return rows.select_related("files").defer("sealed")


def newest(state: State | None) -> Shown:
    if state is None:
        return Shown(0)
    row = versions(state).filter(number=state.version).first()
    return Shown(state.version, state.values, keeping.files_of(state.files_id), row)


def version(state: State | None, number: int) -> Shown:
    """Raises NotFound."""
    row = versions(state).filter(number=number).first()
    if row is None:
        raise NotFound(f"Version {number} of this state is not kept")
    return Shown(number, row.values, keeping.files_of(row.files_id), row)


def compare(state: State | None, before: int, after: int) -> list[Difference]:
    """How two versions differ; version 0 is empty. Secrets count, but are masked. Raises
    NotFound."""
    sides = [_opened(state, number) for number in (before, after)]
    found = engine.compare((sides[0][0], sides[1][0]), (sides[0][2], sides[1][2]))
    return [
        one
        if one.is_file
        else Difference(
            one.name, False, sides[0][1].get(one.name), sides[1][1].get(one.name), one.what
        )
        for one in found
    ]


def _opened(
    state: State | None, number: int
) -> tuple[Mapping[str, Any], Mapping[str, Any], tuple[StateFile, ...]]:
    """Values in clear, as shown, and files."""
    if number == 0:
        return {}, {}, ()
    found = version(state, number)
    assert found.row is not None, "it was found as a row"
    return keeping.clear(found.row)[0], found.values, found.files


@retried
def restore(workspace_id: int, task_name: str, number: int, *, by: str) -> StateVersion:
    """Make an older version the newest again, as a version of its own. Raises NotFound."""
    opened = keeping.locked(workspace_id, task_name)
    row = opened.row.versions.select_related("files").filter(number=number).first()
    if row is None:
        raise NotFound(f"Version {number} of this state is not kept")
    values, hidden = keeping.clear(row)
    removed = tuple(key for key in opened.kept.values if key not in values)
    change = Change(number, values, removed, keeping.files_of(row.files_id))
    made = keeping.record(opened, change, Writer("restore", by=by), masks=hidden, files=row.files)
    told = {"version": {"before": opened.kept.version, "after": made.number}}
    _note("restore", opened.row, by, told, f"version {number} again")
    return made


@retried
def forget(workspace_id: int, task_name: str, *, by: str = "") -> int:
    """Remove all values, files and versions, for good; returns how many versions. Numbers go on:
    a step under way is told that what it saw has changed."""
    opened = keeping.locked(workspace_id, task_name)
    row, number = opened.row, opened.row.version + 1
    count = row.versions.count()
    row.versions.all().delete()
    row.version, row.values, row.sealed, row.files = number, {}, None, None
    row.written, row.files_written = dict.fromkeys(row.written, number), number
    row.save()
    keeping.forget_files(row)
    _note("remove", row, by, None, f"{count} versions")
    return count


def _note(verb: str, row: State, by: str, changes: Changes | None, detail: str) -> None:
    of, where = row.task_name or "workspace", row.workspace.name
    note(f"state.{verb}", of, by=by, workspace=where, changes=changes, detail=detail)


def pack(shown: Shown, out: IO[bytes]) -> None:
    """A version as tar.gz: its files, and its values as `state.json`, with secrets masked. Raises
    StorageAway."""
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        text = json.dumps(shown.values, ensure_ascii=False, indent=2).encode() + b"\n"
        _add(tar, engine.VALUES_FILE, io.BytesIO(text), len(text), shown, is_program=False)
        for file in shown.files:
            stored = blobs.Stored(file.blob, file.digest, file.size)
            with blobs.open_blob(stored) as data:
                _add(tar, file.path, data, file.size, shown, is_program=file.is_program)


def _add(
    tar: tarfile.TarFile, path: str, data: IO[bytes], size: int, shown: Shown, *, is_program: bool
) -> None:
    entry = tarfile.TarInfo(path)
    entry.size, entry.mode = size, 0o755 if is_program else 0o644
    entry.mtime = int(shown.created_at.timestamp()) if shown.created_at else 0
    tar.addfile(entry, data)
