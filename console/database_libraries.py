"""The part of the commands' port that is about libraries, implemented on the database. Imported
only when it is asked for."""

from __future__ import annotations

from apps.workspaces.libraries import listing
from apps.workspaces.models import Workspace
from console import port
from engine.errors import AuthorError


def listed(workspace: Workspace | None) -> list[port.LibraryLine]:
    rows = Workspace.objects.all()
    if workspace is not None:
        rows = rows.filter(pk=workspace.pk)
    return [
        port.LibraryLine(
            one.row.workspace.name, one.row.name, one.row.address, one.row.ref,
            one.row.commit or one.row.tree, one.row.pinned_at, one.row.pinned_by, one.used_by,
        )
        for one in listing.listed(rows)
    ]  # fmt: skip


def refresh(workspace: Workspace, name: str | None, by: str) -> None:
    fresh = listing.refresh(workspace, [] if name is None else [name], by)
    if fresh.has_failed:
        errors = [one["text"] for one in fresh.problems if one["severity"] == "error"]
        raise AuthorError("\n".join(errors))
