"""`manage.py validate`: lists a workspace's problems, each with its file, line and column."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console.operator_command import TypedCommand
from console.screen import clean
from console.workspace_path import read_path
from engine.spec.reporting import is_empty, report

NOTHING = 2


class Command(TypedCommand):
    help = (
        "Check a workspace without importing it. Exit code 0: valid, 1: errors, 2: nothing to"
        " check."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "path", help="the workspace's folder, or one workflow file (YAML or Torc)"
        )
        parser.add_argument("--strict", action="store_true", help="treat warnings as errors")

        parser.add_argument(
            "--workspace",
            metavar="NAME",
            help="also warn if no live worker serves a workspace of this name, and tell which"
            " connections its database has in place of those of the files; needs the database",
        )

    def act(self, **options: Any) -> int:
        _, loaded = read_path(options["path"])
        warning, notes = None, list[str]()
        if options["workspace"]:
            warning = self.platform.unserved(options["workspace"])
            if loaded.workspace is not None:
                notes = self.platform.connection_notes(options["workspace"], loaded.workspace)
        if warning:
            self.stdout.write(warning)
        for note in notes:
            self.stdout.write(clean(note))
        self.stdout.write(report(loaded))
        if is_empty(loaded):
            return NOTHING
        doubts = loaded.problems or warning or any(note.startswith("Warning") for note in notes)
        return int(bool(loaded.errors or (options["strict"] and doubts)))
