"""`manage.py logs`: what a job has written, and what it goes on to write."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from typing import Any

from apps.jobs.log.cursors import EVERYTHING, Choice, Cursor, Whose, read
from apps.jobs.models import Job, Step
from apps.workflow_actions.snapshots import actions_called
from engine.errors import InputError, NotFound
from engine.lifecycle import JobStatus
from stroem_project.following.follower import Follower, last_try
from stroem_project.following.screen import Screen
from stroem_project.job_ids import find_job
from stroem_project.operator_command import OperatorCommand

SERVER = "_server"


class Command(OperatorCommand):
    help = "Show the log of a job. With --follow, exit code 1 when the job failed or was cancelled."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", help="its id, or the beginning of it")
        parser.add_argument(
            "--step", help=f"only this step, with all instances of a loop; {SERVER} for the server"
        )
        parser.add_argument(
            "--action", help="only this workflow action, with all its runs; `jobs JOB` lists them"
        )
        parser.add_argument(
            "--follow",
            action="store_true",
            help="go on until the job and all that it set off have ended",
        )

    def act(self, **options: Any) -> int:
        job = find_job(options["job"])
        screen = Screen(sys.stdout)
        if options["step"] and options["action"]:
            raise InputError({"action": "give --step or --action, not both"})
        if options["follow"]:
            if options["step"] or options["action"]:
                raise InputError(
                    {"follow": "--follow shows everything; leave out --step and --action"}
                )
            Follower(job.pk, screen).follow()
            return 0 if last_try(job.pk).status == JobStatus.COMPLETED else 1
        self._show(screen, job, _choice(job, options["step"], options["action"]))
        return 0

    def _show(self, screen: Screen, job: Job, choice: Choice) -> None:
        cursor, has_more = Cursor(), True
        while has_more:
            piece = read([job.pk], cursor, choice)
            cursor, has_more = piece.next, piece.has_more
            for _, lines in piece.chunks:
                for line in lines.splitlines():
                    record = json.loads(line)
                    screen.line(
                        f"{record['step']} | {record['line']}"
                        if choice == EVERYTHING
                        else record["line"]
                    )
        screen.close()


def _choice(job: Job, step: str | None, action: str | None) -> Choice:
    """What of the job's log is meant."""
    if action:
        return Choice.of(Whose.ACTION, *actions_called(job, action))
    if step == SERVER:
        return Choice(Whose.SERVER)
    return Choice.of(Whose.STEP, _id_of(job, step)) if step else EVERYTHING


def _id_of(job: Job, name: str) -> int:
    found = Step.objects.filter(job_id=job.pk, name=name).values_list("pk", flat=True).first()
    if found is None:
        raise NotFound(f"Job {job.pk} has no step '{name}'")
    return found
