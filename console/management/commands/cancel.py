"""`manage.py cancel`: stop a job and its children."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console.operator_command import OperatorCommand
from engine.errors import Conflict


class Command(OperatorCommand):
    help = "Cancel a job and its child jobs. Exit code 1 if it has already ended."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", help="job id, or its first characters")
        parser.add_argument(
            "--as", dest="email", metavar="EMAIL", help="user who cancels it, as an operator"
        )

    def act(self, **options: Any) -> int:
        job_id = self.job_meant(options)
        try:
            self.platform.cancel(job_id, options["email"])
        except Conflict as error:
            self.stderr.write(f"{job_id}: {error}")
            return 1
        self.stdout.write(f"{job_id}: asked to stop")
        return 0
