"""The part of the commands' port that is about states, implemented on the database. Imported only
when it is asked for."""

from __future__ import annotations

from apps.artifacts.state import history
from console import port


def view(workspace_id: int, task: str, version: int | None) -> port.StateView:
    found = history.find(workspace_id, task)
    shown = history.newest(found) if version is None else history.version(found, version)
    return port.StateView(
        shown.version, shown.values, [(file.path, file.size) for file in shown.files]
    )


def versions(workspace_id: int, task: str) -> list[port.StateVersionLine]:
    rows = history.versions(history.find(workspace_id, task))
    return [
        port.StateVersionLine(
            row.number, row.created_at, row.source, row.job_id, row.step_name or None,
            row.by or None, row.written, row.files.count if row.files else 0,
        )
        for row in rows
    ]  # fmt: skip


def restore(workspace_id: int, task: str, version: int, by: str) -> int:
    return history.restore(workspace_id, task, version, by=by).number
