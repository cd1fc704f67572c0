"""`manage.py approve`: approve a step that waits for a decision."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console.deciding import DecidingCommand
from console.port import Verdict
from console.typed_input import add_input_options, read_inputs


class Command(DecidingCommand):
    help = (
        "Approve a step that waits for a decision. Exit code 1 if the user may not decide it, or"
        " if it has already been decided."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        add_input_options(parser, "a field of the approval form")

    def act(self, **options: Any) -> int:
        return self.submit(
            options, Verdict(True, read_inputs(options["input"], options["input_file"]) or None)
        )
