"""`manage.py approve`: say yes to a step that waits."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console.deciding import DecidingCommand
from console.port import Verdict
from console.typed_input import add_input_option, read_inputs


class Command(DecidingCommand):
    help = (
        "Approve a step that waits. Exit code 1 when this user may not, or when it was decided"
        " before."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        add_input_option(parser, "a field of the form; may be repeated")

    def act(self, **options: Any) -> int:
        return self.submit(options, Verdict(True, read_inputs(options["input"]) or None))
