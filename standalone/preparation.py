"""Prepares a new database: its tables and the example workspaces."""

from __future__ import annotations

import psycopg
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError

from apps.fleet.presence import missing_migrations
from engine.errors import PlatformError, StroemError

DEFAULT_EXAMPLE = "hello"  # imported under the name `default`
_LOCK_MIGRATE = 0x5_7120E_02


def migrate() -> bool:
    """Migrate the tables, one process at a time. Returns whether there was anything to do."""
    # The lock belongs to a separate connection, so it ends with the process.
    with psycopg.connect(settings.STROEM.db.url or "", autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [_LOCK_MIGRATE])
        if not missing_migrations():
            return False
        try:
            call_command("migrate", interactive=False, verbosity=0)
        except DatabaseError as error:
            raise PlatformError(f"Migrating the database failed: {error}") from error
        return True


def import_examples() -> tuple[list[str], dict[str, str]]:
    """Import all examples into an empty installation; elsewhere only those that are still there.

    Returns the imported names, and a sentence for each example that could not be imported.
    """
    from apps.workspaces.models import Workspace
    from apps.workspaces.services import import_folder

    known = set(Workspace.objects.values_list("name", flat=True))
    imported: list[str] = []
    refused: dict[str, str] = {}
    for folder in sorted((settings.BASE_DIR / "examples").glob("[!.]*/")):
        name = "default" if folder.name == DEFAULT_EXAMPLE else folder.name
        if name in settings.STROEM.workspaces:
            continue  # the settings define a workspace of that name
        if known and name not in known:
            continue  # somebody has removed it
        try:
            read = import_folder(name, folder)
        except StroemError as error:
            refused[name] = str(error)
        else:
            if read.has_failed:
                refused[name] = str(read.problems[0]["text"])
            else:
                imported.append(name)
    return imported, refused
