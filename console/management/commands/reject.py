"""`manage.py reject`: say no to a step that waits."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console.deciding import DecidingCommand
from console.port import Verdict


class Command(DecidingCommand):
    help = (
        "Reject a step that waits. Exit code 1 when this user may not, or when it was decided"
        " before."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--reason", default="", help="why, for those who started the job")

    def act(self, **options: Any) -> int:
        return self.submit(options, Verdict(False, reason=options["reason"]))
