"""`manage.py artifacts JOB`: the files that a job's steps have left; with a name, or with --all,
they are downloaded."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

from console import downloads
from console.operator_command import OperatorCommand
from console.port import ArtifactLine
from console.tables import table
from engine.errors import InputError, NotFound
from engine.spec.problems import did_you_mean


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
        names = options["name"]
        _refuse_contradictions(options)
        job_id = self.job_meant(options)
        found = self._found(job_id, options["step"])
        if not names and not options["all"]:
            self._list(found, options)
            return 0
        if options["all"] and not found:
            self.stderr.write("No artifacts.")
        chosen, output = downloads.chosen(found, names), options["output"]
        for one, place in downloads.places(chosen, output, is_all=options["all"]):
            downloads.download(self.platform, job_id, one, place)
            self.stdout.write(str(place))
        return 0

    def _found(self, job_id: UUID, step: str | None) -> list[ArtifactLine]:
        found = self.platform.artifacts(job_id)
        chosen = [one for one in found if step in (None, one.step_name)]
        if step is not None and not chosen:
            known = [one.step_name for one in self.platform.job(job_id).steps]
            if step not in known:
                raise NotFound(f"Job {job_id} has no step '{step}'{did_you_mean(step, known)}")
        return chosen

    def _list(self, found: Sequence[ArtifactLine], options: dict[str, Any]) -> None:
        if options["json"]:
            for one in found:
                self.stdout.write(json.dumps(asdict(one), default=str, ensure_ascii=False))
            return
        rows = [(one.name, one.step_name, one.content_type, f"{one.size_bytes:,}") for one in found]
        for line in table(("FILE", "STEP", "TYPE", "BYTES"), rows) if rows else ["No artifacts."]:
            self.stdout.write(line)


def _refuse_contradictions(options: Mapping[str, Any]) -> None:
    if options["name"] and options["all"]:
        raise InputError({"all": "give names or --all, not both"})
    downloads_some = options["name"] or options["all"]
    if options["output"] and not downloads_some:
        raise InputError({"output": "--output is for downloads: name files, or give --all"})
    if options["json"] and downloads_some:
        raise InputError({"json": "--json is for the list, not for downloads"})
