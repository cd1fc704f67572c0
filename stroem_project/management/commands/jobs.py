"""`manage.py jobs`: the newest jobs, one a line; `manage.py jobs JOB`: one job with its steps and
workflow actions."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from datetime import datetime
from typing import Any

from django.db.models.functions import Now

from apps.jobs.models import Job
from engine.errors import InputError
from engine.lifecycle import JobStatus
from stroem_project.following.screen import clean
from stroem_project.job_ids import find_job
from stroem_project.job_report import as_json, as_lines
from stroem_project.operator_command import OperatorCommand

MOST = 500


class Command(OperatorCommand):
    help = "List jobs, the newest first; or show one job with its steps and workflow actions."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", nargs="?", help="show this one: its id, or the beginning of it")
        parser.add_argument("--workspace", help="only those of this workspace")
        parser.add_argument("--task", help="only those of this task")
        parser.add_argument("--status", choices=[status.value for status in JobStatus])
        parser.add_argument(
            "--limit", type=int, default=20, help=f"at most so many (default 20, up to {MOST})"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object a line")

    def act(self, **options: Any) -> int:
        if options["job"]:
            job = find_job(options["job"])
            for line in [as_json(job)] if options["json"] else as_lines(job):
                self.stdout.write(line)
            return 0
        if not 1 <= options["limit"] <= MOST:
            raise InputError({"limit": f"--limit must be between 1 and {MOST}"})
        filters = {
            "workspace__name": options["workspace"],
            "task_name": options["task"],
            "status": options["status"],
        }
        rows = Job.objects.filter(
            **{key: value for key, value in filters.items() if value is not None}
        )
        columns = (
            "pk",
            "status",
            "workspace__name",
            "task_name",
            "created_at",
            "started_at",
            "completed_at",
            "now",
        )
        newest = rows.annotate(now=Now()).order_by("-created_at", "-id").values_list(*columns)
        show = self._as_json if options["json"] else self._as_line
        for row in newest[: options["limit"]]:
            show(*row)
        return 0

    def _as_line(self, *row: Any) -> None:
        job_id, status, workspace, task, created_at, started_at, completed_at, now = row
        seconds = (
            ""
            if started_at is None
            else f"{((completed_at or now) - started_at).total_seconds():.1f} s"
        )
        self.stdout.write(
            f"{job_id}  {status:<9}  {created_at:%Y-%m-%d %H:%M:%S}  {seconds:>10} "
            f" {clean(f'{workspace}/{task}')}"
        )

    def _as_json(self, *row: Any) -> None:
        names = (
            "job_id",
            "status",
            "workspace",
            "task_name",
            "created_at",
            "started_at",
            "completed_at",
        )
        values = [item.isoformat() if isinstance(item, datetime) else item for item in row[1:-1]]
        self.stdout.write(
            json.dumps(dict(zip(names, (str(row[0]), *values), strict=True)), ensure_ascii=False)
        )
