"""`manage.py trigger`: start a task and optionally follow its job."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any
from uuid import UUID

from console.base import PROGRAM, add_actor
from console.follower import Follower, answer, show_result
from console.operator_command import OperatorCommand
from console.port import JobResult
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
        add_actor(parser, "user who starts it, with the right `run`")
        parser.add_argument(
            "--follow",
            action="store_true",
            help="show progress until the job and all that it set off have ended",
        )
        parser.add_argument(
            "--json",
            action="store_true",
            help="make the last line one JSON object: the job's id and, with --follow, its result",
        )

    def act(self, **options: Any) -> int:
        given = read_inputs(options["input"], options["input_file"])
        workspace, task = options["workspace"], options["task"]
        job_id = self.platform.start(workspace, task, given, "trigger", options["email"])
        if not options["follow"]:
            told = json.dumps({"job_id": str(job_id)}) if options["json"] else str(job_id)
            self.stdout.write(told)
            return 0
        result = self._follow(job_id, task, self.screen(sys.stdout, options))
        told = json.dumps(answer(self.platform, result), ensure_ascii=False)
        self.stdout.write(told if options["json"] else str(job_id))
        return 0 if result.status == JobStatus.COMPLETED else 1

    def _follow(self, job_id: UUID, task: str, screen: Screen) -> JobResult:
        try:
            Follower(self.platform, job_id, screen).follow()
        except KeyboardInterrupt:
            screen.close()
            self.stderr.write(
                f"No longer following; the job continues. `{PROGRAM} cancel {job_id}` stops it."
            )
            self.stdout.write(str(job_id))
            raise
        return show_result(self.platform, job_id, task, screen)
