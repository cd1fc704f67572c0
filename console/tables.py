"""Lists of workspaces, tasks and triggers in a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from console.port import (
    ConnectionLine,
    LibraryLine,
    SecretLine,
    StateVersionLine,
    TaskLine,
    TriggerLine,
    WorkerLine,
    WorkspaceLine,
)
from console.screen import clean

LONGEST_CELL = 60


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Lines with aligned columns. Control characters never reach the terminal."""
    cells = [list(header), *([clean(cell) for cell in row] for row in rows)]
    widths = [min(max(map(len, column)), LONGEST_CELL) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def workspaces(found: Iterable[WorkspaceLine]) -> Iterator[str]:
    header = ("NAME", "STATE", "TASKS", "REVISION", "READ (UTC)", "SOURCE")
    return table(header, ((
        row.name, row.state, str(row.tasks), row.revision or "none",
        f"{row.checked_at:%Y-%m-%d %H:%M}" if row.checked_at else "never",
        f"{row.source} {row.location}",
    ) for row in found))  # fmt: skip


def tasks(found: Iterable[TaskLine]) -> Iterator[str]:
    header = ("WORKSPACE", "TASK", "INPUT (* REQUIRED)", "DESCRIPTION")
    return table(header, (
        (row.workspace, row.task_name, _inputs(row.inputs) or "none", _first_line(row.description))
        for row in found
    ))  # fmt: skip


def triggers(found: Iterable[TriggerLine]) -> Iterator[str]:
    header = ("WORKSPACE", "TRIGGER", "STATE", "TASK", "NEXT (UTC)", "LAST (UTC)", "FIRES")
    return table(header, ((
        row.workspace, row.name, f"{row.state} ({row.failures})" if row.failures else row.state,
        row.task, _moment(row.next[0]) if row.next else "none",
        _moment(row.last_fired_at) if row.last_fired_at else "never", row.fires,
    ) for row in found))  # fmt: skip


def next_runs(found: Iterable[TriggerLine]) -> Iterator[str]:
    header = ("WORKSPACE", "TRIGGER", "NEXT RUNS (UTC)")
    return table(header, (
        (row.workspace if first else "", row.name if first else "", _moment(run))
        for row in found for first, run in ((run is row.next[0], run) for run in row.next)
    ))  # fmt: skip


def state_versions(found: Iterable[StateVersionLine]) -> Iterator[str]:
    header = ("VERSION", "MADE (UTC)", "BY", "KEYS", "FILES")
    return table(header, ((
        str(row.version), _moment(row.created_at),
        f"{row.step_name} of {row.job_id}" if row.step_name else f"{row.by} ({row.source})",
        ", ".join(row.written) or "none", str(row.files),
    ) for row in found))  # fmt: skip


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def workers(found: Iterable[WorkerLine]) -> Iterator[str]:
    header = ("NAME", "STATE", "BUSY", "SEEN", "VERSION", "TAGS")
    return table(header, ((
        row.name, row.state, f"{row.busy} of {row.slots}", f"{max(row.seen_s, 0):.0f} s ago",
        row.version, ", ".join(row.tags),
    ) for row in found))  # fmt: skip


def libraries(found: Iterable[LibraryLine]) -> Iterator[str]:
    header = ("WORKSPACE", "LIBRARY", "SOURCE", "PIN", "SINCE (UTC)", "BY", "USED BY")
    return table(header, ((
        row.workspace, row.name, f"{row.address} {row.ref}".rstrip(), row.pin[:12],
        f"{row.pinned_at:%Y-%m-%d %H:%M}", row.pinned_by, ", ".join(row.used_by) or "nothing",
    ) for row in found))  # fmt: skip


def secrets(found: Iterable[SecretLine]) -> Iterator[str]:
    header = ("NAME", "CHANGED (UTC)", "BY")
    return table(
        header, ((row.name, f"{row.updated_at:%Y-%m-%d %H:%M}", row.updated_by) for row in found)
    )


def connections(found: Iterable[ConnectionLine]) -> Iterator[str]:
    header = ("NAME", "TYPE", "FROM", "USED BY", "LAST CHECK", "PROBLEM")
    return table(
        header,
        (
            (
                row.name,
                row.type or "-",
                f"{row.source}, in place of files" if row.overrides else row.source,
                str(row.uses),
                row.check or "never",
                row.problem or "",
            )
            for row in found
        ),
    )


def as_json(
    row: WorkspaceLine
    | TaskLine
    | TriggerLine
    | WorkerLine
    | SecretLine
    | ConnectionLine
    | LibraryLine,
) -> str:
    shown: dict[str, Any] = asdict(row)
    if isinstance(row, TaskLine):
        shown["inputs"] = {
            name: {"type": type_, "required": required}
            for name, (type_, required) in row.inputs.items()
        }
    return json_line(shown)


def json_line(shown: Mapping[str, Any]) -> str:
    return json.dumps(shown, ensure_ascii=False, default=_plain)


def status(name: str, status: str, *, as_json: bool) -> str:
    """What was done with a thing of this name."""
    return json_line({"name": name, "status": status}) if as_json else f"{name}: {status}"


def _inputs(inputs: Mapping[str, tuple[str, bool]]) -> str:
    return ", ".join(f"{name}{'*' if required else ''}" for name, (_, required) in inputs.items())


def _first_line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")


def _plain(value: Any) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
