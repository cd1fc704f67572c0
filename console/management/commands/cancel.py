"""`manage.py cancel`: stop a job and its children."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from console.base import add_actor
from console.operator_command import OperatorCommand
from engine.errors import Conflict


class Command(OperatorCommand):
    help = "Cancel a job and its child jobs. Exit code 1 if it has already ended."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", help="job id, or its first characters")
        add_actor(parser, "user who cancels it, with the right `run`")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def act(self, **options: Any) -> int:
        job_id = self.job_meant(options)
        try:
            self.platform.cancel(job_id, options["email"])
        except Conflict as error:
            self.stderr.write(f"{job_id}: {error}")
            return 1
        told = {"job_id": str(job_id), "status": "asked to stop"}
        self.stdout.write(json.dumps(told) if options["json"] else f"{job_id}: asked to stop")
        return 0
