"""`manage.py reject`: reject a step that waits for a decision."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console.deciding import DecidingCommand
from console.port import Verdict


class Command(DecidingCommand):
    help = (
        "Reject a step that waits for a decision. Exit code 1 if the user may not decide it, or"
        " if it has already been decided."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--reason", default="", help="shown to everyone who can see the job")

    def act(self, **options: Any) -> int:
        return self.submit(options, Verdict(False, reason=options["reason"]))
