"""`manage.py restart`: run a whole job again, or only its failed steps."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console.operator_command import OperatorCommand
from engine.errors import Conflict


class Command(OperatorCommand):
    help = (
        "Start a new job with the same input on the current revision or, with --failed, run the"
        " failed steps of this job again. The last line is the job's id. Exit code 1 if the job's"
        " state does not allow it."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", help="job id, or its first characters")
        parser.add_argument(
            "--failed",
            action="store_true",
            help="same job: run its failed and cancelled steps again, and those skipped after them",
        )
        parser.add_argument(
            "--as", dest="email", metavar="EMAIL", help="user who restarts it, as an operator"
        )

    def act(self, **options: Any) -> int:
        job_id = self.job_meant(options)
        if not options["failed"]:
            self.stdout.write(str(self.platform.rerun(job_id, options["email"])))
            return 0
        try:
            self.platform.restart_failed(job_id, options["email"])
        except Conflict as error:
            self.stderr.write(f"{job_id}: {error}")
            return 1
        self.stdout.write(str(job_id))
        return 0
