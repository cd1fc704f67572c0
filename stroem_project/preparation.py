"""What a database needs before anybody can work with it: its tables, an administrator, the first
workspaces."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from engine.errors import PlatformError, StroemError
from stroem_project.config import ROOT

EXAMPLES = ROOT / "examples"
DEFAULT_EXAMPLE = "hello"  # imported under the name `default`
_LOCK_MIGRATE = 0x5_7120E_02


def has_unapplied_migrations() -> bool:
    executor = MigrationExecutor(connection)
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def migrate() -> bool:
    """Brings the tables up to date, one process at a time; whether there was anything to do."""
    with _migration_lock():
        if not has_unapplied_migrations():
            return False
        try:
            call_command("migrate", interactive=False, verbosity=0)
        except DatabaseError as error:
            raise PlatformError(f"The database could not be brought up to date: {error}") from error
        return True


@contextmanager
def _migration_lock() -> Iterator[None]:
    """A connection of its own holds it: the lock goes when the process does."""
    with psycopg.connect(settings.STROEM.db.url, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(%s)", [_LOCK_MIGRATE])
        yield


def example_workspaces() -> dict[str, Path]:
    """Workspace name -> folder, for the examples that ship with Stroem."""
    if not EXAMPLES.is_dir():
        return {}
    folders = sorted(
        entry for entry in EXAMPLES.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )
    return {
        "default" if folder.name == DEFAULT_EXAMPLE else folder.name: folder for folder in folders
    }


def import_examples() -> tuple[list[str], dict[str, str]]:
    """The names that were imported, and a sentence for each that could not be."""
    from apps.workspaces.services import import_folder

    imported: list[str] = []
    refused: dict[str, str] = {}
    for name, folder in example_workspaces().items():
        if name in settings.STROEM.workspaces:
            continue  # the configuration has one of that name
        try:
            import_folder(name, folder)
            imported.append(name)
        except StroemError as error:
            refused[name] = str(error)
    return imported, refused


def import_configured() -> dict[str, str]:
    """Reads the workspaces that the settings name; a sentence for each that could not be read."""
    from apps.workspaces.models import Workspace
    from apps.workspaces.services import import_folder, import_git

    refused: dict[str, str] = {}
    for name, source in settings.STROEM.workspaces.items():
        try:
            if source.type == "folder":
                import_folder(name, source.path)
            else:
                import_git(name, source.url, source.ref, source.auth or "")
            Workspace.objects.filter(name=name).update(
                poll_interval_s=max(1, round(source.poll_interval_s))
            )
        except StroemError as error:
            refused[name] = str(error)
    return refused
