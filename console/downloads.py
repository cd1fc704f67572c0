"""Files of jobs on the caller's disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from console.port import ArtifactLine, Platform
from engine import artifacts as rules
from engine.errors import NotFound, PlatformError
from engine.spec.problems import did_you_mean


def download(platform: Platform, job_id: UUID, one: ArtifactLine, place: Path) -> None:
    """The whole file or none; its bytes are compared with their hash."""
    part = place.with_name(f".{place.name[:200]}.part")
    digest = hashlib.sha256()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            for piece in platform.artifact(job_id, one.name, one.step_name):
                digest.update(piece)
                file.write(piece)
        if digest.hexdigest() != one.digest:
            raise PlatformError(f"{one.name} did not arrive as it was stored: try again")
        if one.is_program:  # for whoever may read it
            mode = part.stat().st_mode
            part.chmod(mode | (mode & 0o444) >> 2)
        os.replace(part, place)
    except OSError as error:
        raise PlatformError(f"{place} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            part.unlink()


def chosen(found: Sequence[ArtifactLine], names: Sequence[str]) -> list[ArtifactLine]:
    """Those with these names; of several with one name, the newest. Without names, all."""
    if not names:
        return list(found)
    newest = {one.name: one for one in found}
    for name in names:
        if name not in newest:
            raise NotFound(f"The job has no artifact '{name}'{did_you_mean(name, newest)}")
    return [newest[name] for name in names]


def places(
    files: Sequence[ArtifactLine], output: Path | None, *, is_all: bool
) -> list[tuple[ArtifactLine, Path]]:
    """Where each is written: of all, below a directory for each step."""
    if not is_all and len(files) == 1 and output is not None and not output.is_dir():
        return [(files[0], output)]
    root = output or Path()
    found = []
    for one in files:
        name = f"{one.step_name}/{one.name}" if is_all else one.name
        if rules.find_objection(name) is not None:
            raise PlatformError(f"{name!r} is no name for a file here: download it by itself")
        found.append((one, root / name))
    return found
