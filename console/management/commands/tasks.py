"""`manage.py tasks`: the tasks that can be started, with their inputs."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console import tables
from console.operator_command import OperatorCommand


class Command(OperatorCommand):
    help = "List the tasks of all workspaces, or of one, with the names of their inputs."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("workspace", nargs="?", help="only tasks of this workspace")
        parser.add_argument("--json", action="store_true", help="print one JSON object per line")

    def act(self, **options: Any) -> int:
        found = self.platform.tasks(options["workspace"])
        if options["json"]:
            for row in found:
                self.stdout.write(tables.as_json(row))
            return 0
        if not found:
            self.stdout.write("No tasks.")
            return 0
        for line in tables.tasks(found):
            self.stdout.write(line)
        return 0
