"""`manage.py cancel`: stop a job and its children."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from apps.jobs.services import cancel_job
from engine.errors import Conflict
from stroem_project.job_ids import find_job
from stroem_project.operator_command import OperatorCommand


class Command(OperatorCommand):
    help = "Cancel a job with its child jobs. Exit code 1 when it had ended already."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", help="its id, or the beginning of it")

    def act(self, **options: Any) -> int:
        job = find_job(options["job"])
        try:
            cancel_job(job.pk, actor="operator")
        except Conflict as error:
            self.stderr.write(f"{job.pk}: {error}")
            return 1
        self.stdout.write(f"{job.pk}: asked to stop")
        return 0
