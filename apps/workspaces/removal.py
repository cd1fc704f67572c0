"""Removing a workspace: its revisions, its stored secrets and the archives that nothing else uses.
Its jobs are removed first, by `apps.jobs.upkeep.removal`."""

from __future__ import annotations

from django.conf import settings
from django.db import transaction
from django.db.models import ProtectedError

from apps.audit.services import note
from apps.workspaces import ports, revisions
from apps.workspaces.models import Blob, Revision, Workspace
from engine.errors import Conflict, NotFound


def removable(name: str) -> Workspace:
    """Raises NotFound, or Conflict where the settings would bring it back."""
    row = Workspace.objects.filter(name=name).first()
    if row is None:
        raise NotFound(f"Workspace '{name[:100]}' not found")
    if name in settings.STROEM.workspaces:
        raise Conflict(
            f"The settings define workspace '{name}' (`workspaces.{name}`) and would bring it back:"
            " take it out there first"
        )
    return row


def close(row: Workspace) -> None:
    """Take its revision out of force, so that no job starts."""
    with transaction.atomic():
        note("workspace.remove", row.name, workspace=row.name)
        Workspace.objects.filter(pk=row.pk).update(current=None)
        ports.came_into_force(row, None)


def remove(row: Workspace) -> None:
    """Raises Conflict if it still has jobs."""
    try:
        with transaction.atomic():
            Workspace.objects.select_for_update().filter(pk=row.pk).first()
            own = Revision.objects.filter(workspace=row)
            keys = list(own.values_list("pk", "archive_id"))
            row.delete()
            used = Revision.objects.values("archive_id")
            archives = [archive for _, archive in keys]
            Blob.objects.filter(pk__in=archives).exclude(pk__in=used).delete()
    except ProtectedError:
        raise Conflict(f"Workspace '{row.name}' has jobs again: remove it once more") from None
    for key, _ in keys:
        revisions.forget(key)
    revisions.forget_secrets(row.pk)
