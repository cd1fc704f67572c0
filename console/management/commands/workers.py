"""`manage.py workers`: the workers, with what they offer and how they are."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console import tables
from console.operator_command import OperatorCommand


class Command(OperatorCommand):
    help = "List the workers, newest first: their state, slots and tags."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--all", action="store_true", help="also those that have stopped")
        parser.add_argument("--json", action="store_true", help="print one JSON object per line")

    def act(self, **options: Any) -> int:
        found = self.platform.workers(with_gone=options["all"])
        if options["json"]:
            for row in found:
                self.stdout.write(tables.as_json(row))
            return 0
        if not found:
            self.stdout.write("No workers.")
            return 0
        for line in tables.workers(found):
            self.stdout.write(line)
        return 0
