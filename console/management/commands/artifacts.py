"""`manage.py artifacts JOB`: the files that a job's steps have left; with a name, or with --all,
they are downloaded."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from console import downloads
from console.operator_command import OperatorCommand
from console.port import ArtifactLine
from console.tables import table
from engine.errors import InputError


class Command(OperatorCommand):
    help = "List the files that a job's steps have left, or download some."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", help="job id, or its first characters")
        parser.add_argument("name", nargs="*", default=[], help="download this file")
        parser.add_argument("--all", action="store_true", help="download all files")
        parser.add_argument("--step", help="only files of this step")
        parser.add_argument(
            "--output", "-o", type=Path, help="the file or the directory to write; default: here"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object per line")

    def act(self, **options: Any) -> int:
        job_id, names = self.job_meant(options), options["name"]
        if names and options["all"]:
            raise InputError({"all": "give names or --all, not both"})
        found = self.platform.artifacts(job_id)
        if options["step"]:
            found = [one for one in found if one.step_name == options["step"]]
        if not names and not options["all"]:
            self._list(found, options)
            return 0
        chosen, output = downloads.chosen(found, names), options["output"]
        for one, place in downloads.places(chosen, output, is_all=options["all"]):
            downloads.download(self.platform, job_id, one, place)
            self.stdout.write(str(place))
        return 0

    def _list(self, found: Sequence[ArtifactLine], options: dict[str, Any]) -> None:
        if options["json"]:
            for one in found:
                self.stdout.write(json.dumps(asdict(one), default=str, ensure_ascii=False))
            return
        rows = [(one.name, one.step_name, one.content_type, f"{one.size_bytes:,}") for one in found]
        for line in table(("FILE", "STEP", "TYPE", "BYTES"), rows) if rows else ["No artifacts."]:
            self.stdout.write(line)
