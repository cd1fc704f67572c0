"""`manage.py schema`: the JSON Schema of workflow files, for editors."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from console.base import CommandError
from console.operator_command import TypedCommand
from engine.spec import json_schema


class Command(TypedCommand):
    help = "Print the JSON Schema of workflow files: editors complete and check with it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--out", metavar="FILE", help="write it to this file instead")

    def act(self, **options: Any) -> int:
        text = json.dumps(json_schema.build(), indent=2, ensure_ascii=False)
        if options["out"] is None:
            self.stdout.write(text)
            return 0
        try:
            Path(options["out"]).write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise CommandError(f"cannot write {options['out']}: {error.strerror}") from None
        self.stdout.write(f"Written to {options['out']}.")
        return 0
