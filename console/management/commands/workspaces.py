"""`manage.py workspaces`: the workspaces of this installation, failing ones first."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console import tables
from console.base import PROGRAM
from console.operator_command import OperatorCommand


class Command(OperatorCommand):
    help = "List workspaces with their state; those that failed to load come first."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object per line")

    def act(self, **options: Any) -> int:
        found = self.platform.workspaces()
        if options["json"]:
            for row in found:
                self.stdout.write(tables.as_json(row))
            return 0
        if not found:
            adding = "; `manage.py import_workspace NAME SOURCE` adds one"
            self.stdout.write(f"No workspaces{adding if PROGRAM == 'manage.py' else ''}.")
            return 0
        for line in tables.workspaces(found):
            self.stdout.write(line)
        for row in found:
            for problem in row.problems:
                self.stderr.write(f"{row.name}: {problem}")
        return 0
