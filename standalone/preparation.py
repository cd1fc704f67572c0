"""What a database needs before anybody can work with it: its tables, an administrator, the first
workspaces."""

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
    """Brings the tables up to date, one process at a time; whether there was anything to do."""
    # A connection of its own holds the lock: it goes when the process does.
    with psycopg.connect(settings.STROEM.db.url or "", autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [_LOCK_MIGRATE])
        if not missing_migrations():
            return False
        try:
            call_command("migrate", interactive=False, verbosity=0)
        except DatabaseError as error:
            raise PlatformError(f"The database could not be brought up to date: {error}") from error
        return True


def import_examples() -> tuple[list[str], dict[str, str]]:
    """The names that were imported, and a sentence for each that could not be."""
    from apps.workspaces.services import import_folder

    imported: list[str] = []
    refused: dict[str, str] = {}
    for folder in sorted((settings.BASE_DIR / "examples").glob("[!.]*/")):
        name = "default" if folder.name == DEFAULT_EXAMPLE else folder.name
        if name in settings.STROEM.workspaces:
            continue  # the configuration has one of that name
        try:
            import_folder(name, folder)
            imported.append(name)
        except StroemError as error:
            refused[name] = str(error)
    return imported, refused
