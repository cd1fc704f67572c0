"""`manage.py restart`: run a whole job again, or only its failed steps."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from console.base import add_actor
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
        add_actor(parser, "user who restarts it, with the right `run`")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def act(self, **options: Any) -> int:
        job_id = self.job_meant(options)
        if not options["failed"]:
            return self._tell(self.platform.rerun(job_id, options["email"]), options)
        try:
            self.platform.restart_failed(job_id, options["email"])
        except Conflict as error:
            self.stderr.write(f"{job_id}: {error}")
            return 1
        return self._tell(job_id, options)

    def _tell(self, job_id: UUID, options: Mapping[str, Any]) -> int:
        told = json.dumps({"job_id": str(job_id)}) if options["json"] else str(job_id)
        self.stdout.write(told)
        return 0
