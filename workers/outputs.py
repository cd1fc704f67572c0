"""The directory that a job's steps and workflow actions share: made before the first of them needs
it."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import UUID

from engine.errors import PlatformError


class Outputs:
    """Output directories on this host. Any thread may ask."""

    def __init__(self, root: Path, owner: tuple[int, int] | None = None) -> None:
        """`root`: where each job gets a directory of its own; `owner`: the user and group that
        steps run as."""
        self._root = root
        self._owner = owner
        self._made: set[Path] = set()

    def open(self, named: str, job_id: UUID) -> Path:
        """The directory `named`, or the job's own below the root when that is empty; made where it
        is missing."""
        path = Path(named) if named else self._root / str(job_id)
        if path not in self._made:
            self._make(path)
            self._made.add(path)
        return path

    def _make(self, path: Path) -> None:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        try:
            path.mkdir(parents=True, exist_ok=True)
            if self._owner is not None:
                for folder in missing:
                    os.chown(folder, *self._owner)
        except OSError as error:
            raise PlatformError(
                f"the output directory {path} cannot be made: {error.strerror}"
            ) from error
