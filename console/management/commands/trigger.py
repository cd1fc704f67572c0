"""`manage.py trigger`: start a task and optionally follow its job."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from console.follower import Follower, show_result
from console.operator_command import OperatorCommand
from console.screen import Screen
from console.typed_input import add_input_options, read_inputs
from engine.lifecycle import JobStatus


class Command(OperatorCommand):
    help = (
        "Start a task of an imported workspace; the last line is the job's id. Exit code 2: it"
        " could not be started; with --follow, 0: completed, 1: failed or cancelled."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("workspace", help="name of the workspace")
        parser.add_argument("task", help="name of the task")
        add_input_options(parser)
        parser.add_argument(
            "--as", dest="email", metavar="EMAIL", help="user who starts it, as an operator"
        )
        parser.add_argument(
            "--follow",
            action="store_true",
            help="show progress until the job and all that it set off have ended",
        )

    def act(self, **options: Any) -> int:
        given = read_inputs(options["input"], options["input_file"])
        workspace, task = options["workspace"], options["task"]
        job_id = self.platform.start(workspace, task, given, "trigger", options["email"])
        screen = self.screen(sys.stdout, options)
        code = self._follow(job_id, task, screen) if options["follow"] else 0
        self.stdout.write(str(job_id))
        return code

    def _follow(self, job_id: UUID, task: str, screen: Screen) -> int:
        try:
            Follower(self.platform, job_id, screen).follow()
        except KeyboardInterrupt:
            screen.close()
            self.stderr.write(
                f"No longer following; the job continues. `manage.py cancel {job_id}` stops it."
            )
            self.stdout.write(str(job_id))
            raise
        result = show_result(self.platform, job_id, task, screen)
        return 0 if result.status == JobStatus.COMPLETED else 1
