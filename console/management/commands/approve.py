"""`manage.py approve`: say yes to a step that waits."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console.deciding import DecidingCommand
from console.typed_input import read_inputs


class Command(DecidingCommand):
    help = (
        "Approve a step that waits. Exit code 1 when this user may not, or when it was decided"
        " before."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--input",
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help="a field of the form; may be repeated; NAME=@FILE reads a file",
        )

    def act(self, **options: Any) -> int:
        return self.decide(options, approved=True, given=read_inputs(options["input"]))
