"""Edits on admin pages become entries."""

from __future__ import annotations

from typing import Any

from django.db.models import Model

from apps.adminkit.edits import Edit
from apps.audit.services import note


def note_edit(edit: Edit) -> None:
    kind = kind_of(edit.row)
    workspace = str(getattr(_workspace_of(edit.row), "name", ""))
    note(f"{kind}.{edit.verb}", edit.row, workspace=workspace, changes=edit.changes)


def kind_of(row: Model) -> str:
    """`accounts.WorkspaceGrant` is a grant, `accounts.ApiToken` a key: as its pages call it."""
    return str(row._meta.verbose_name).replace(" ", "-").lower()[:30]


def _workspace_of(row: Any) -> Any:
    return getattr(row, "workspace", None)
