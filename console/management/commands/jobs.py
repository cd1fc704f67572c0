"""`manage.py jobs`: the newest jobs, one per line; `manage.py jobs JOB`: one job with its steps and
workflow actions."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from console import job_report
from console.arguments import whole_number
from console.operator_command import OperatorCommand
from engine.errors import InputError
from engine.lifecycle import JobStatus

USUAL, MOST = 20, 500


class Command(OperatorCommand):
    help = "List jobs, newest first, or show one job with its steps and workflow actions."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", nargs="?", help="show this job: its id, or the first characters")
        parser.add_argument("--workspace", help="only jobs of this workspace")
        parser.add_argument("--task", help="only jobs of this task")
        parser.add_argument("--status", choices=[status.value for status in JobStatus])
        parser.add_argument(
            "--limit",
            type=whole_number(1, MOST),
            help=f"number of jobs (default {USUAL}, at most {MOST})",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object per line")

    def act(self, **options: Any) -> int:
        filters = ("workspace", "task", "status", "limit")
        if options["job"] is not None:  # an empty one is a script's mistake
            for name in filters:
                if options[name] is not None:
                    raise InputError({name: f"--{name} is for the list; JOB names one job"})
            job_id = self.job_meant(options)
            job = self.platform.job(job_id)
            report = [job_report.as_json(job)] if options["json"] else job_report.as_lines(job)
            for line in report:
                self.stdout.write(line)
            return 0
        wanted = {name: options[name] for name in filters}
        wanted["limit"] = wanted["limit"] or USUAL
        found = self.platform.jobs(**wanted)
        if not options["json"]:
            self.stdout.write(job_report.HEADER if found else "No jobs.")
        show = job_report.list_json if options["json"] else job_report.list_line
        for job_line in found:
            self.stdout.write(show(job_line))
        if len(found) == wanted["limit"] and not options["json"]:
            self.stderr.write(f"These are the newest {len(found)}: --limit shows up to {MOST}.")
        return 0
