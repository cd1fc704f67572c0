"""`manage.py restart`: run a job again, whole or from what failed."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console.operator_command import OperatorCommand
from engine.errors import Conflict


class Command(OperatorCommand):
    help = (
        "Start a new job like this one on the current revision, or with --failed run the same job's"
        " failed steps again. The last line is the job's id. Exit code 1 when the job is in no"
        " state for that."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", help="its id, or the beginning of it")
        parser.add_argument(
            "--failed",
            action="store_true",
            help="the same job: failed, cancelled and consequently skipped steps",
        )
        parser.add_argument(
            "--as", dest="email", metavar="EMAIL", help="who restarts it; needs the role operator"
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
