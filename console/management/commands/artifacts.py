"""`manage.py artifacts JOB`: the files that a job's steps have left; with a name, or with --all,
they are downloaded."""

from __future__ import annotations

import hashlib
import json
import os
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

from console.operator_command import OperatorCommand
from console.port import ArtifactLine
from console.tables import table
from engine import artifacts as rules
from engine.errors import InputError, NotFound, PlatformError
from engine.spec.problems import did_you_mean


class Command(OperatorCommand):
    help = "List the files that a job's steps have left, or download some."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("job", help="job id, or its first characters")
        parser.add_argument("name", nargs="*", help="download this file")
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
        for one, place in _places(_chosen(found, names), options["output"], is_all=options["all"]):
            self._download(job_id, one, place)
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

    def _download(self, job_id: UUID, one: ArtifactLine, place: Path) -> None:
        """The whole file or none; its bytes are compared with their hash."""
        place.parent.mkdir(parents=True, exist_ok=True)
        part = place.with_name(f".{place.name[:200]}.part")
        digest = hashlib.sha256()
        try:
            with part.open("wb") as file:
                for piece in self.platform.artifact(job_id, one.name, one.step_name):
                    digest.update(piece)
                    file.write(piece)
            if digest.hexdigest() != one.digest:
                raise PlatformError(f"{one.name} did not arrive as it was stored: try again")
            os.replace(part, place)
        except OSError as error:
            raise PlatformError(f"{place} cannot be written: {error.strerror or error}") from error
        finally:
            with suppress(OSError):
                part.unlink()


def _chosen(found: Sequence[ArtifactLine], names: Sequence[str]) -> list[ArtifactLine]:
    """Those with these names; of several with one name, the newest. Without names, all."""
    if not names:
        return list(found)
    newest = {one.name: one for one in found}
    for name in names:
        if name not in newest:
            raise NotFound(f"The job has no artifact '{name}'{did_you_mean(name, newest)}")
    return [newest[name] for name in names]


def _places(
    chosen: Sequence[ArtifactLine], output: Path | None, *, is_all: bool
) -> list[tuple[ArtifactLine, Path]]:
    """Where each is written: of all, below a directory for each step."""
    if not is_all and len(chosen) == 1 and output is not None and not output.is_dir():
        return [(chosen[0], output)]
    root = output or Path()
    found = []
    for one in chosen:
        name = f"{one.step_name}/{one.name}" if is_all else one.name
        if rules.find_objection(name) is not None:
            raise PlatformError(f"{name!r} is no name for a file here: download it by itself")
        found.append((one, root / name))
    return found
