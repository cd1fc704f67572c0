"""The output directory that a job's steps and workflow actions share on this host."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from uuid import UUID

from engine.errors import PlatformError

MARK = ".stroem-job"  # a file with the id of the job whose directory it is in
log = logging.getLogger("stroem.worker")


class Outputs:
    """Output directories on this host. Thread-safe."""

    def __init__(self, root: Path, owner: tuple[int, int] | None = None) -> None:
        """`root` holds a directory for each job; `owner`: the user and group that steps run as."""
        self._root = root
        self._owner = owner
        self._made: set[Path] = set()
        self._adopted: dict[UUID, Path] = {}
        self.difference = ""  # how this host's directory is not the one of the job's other hosts
        self.is_split = False  # the job's files come to lie in two directories

    def offer(self, job_id: UUID, directory: Path) -> None:
        """Let a host that gets nodes of this job recognise the job's `directory` here."""
        try:
            (directory / MARK).write_text(f"{job_id}\n")
        except OSError as error:
            log.warning("%s cannot be marked: %s", directory, error.strerror)

    def adopt(self, job_id: UUID, named: str) -> None:
        """Use the directory that the host which requested this one's nodes gave the job, if it is
        here; else say so."""
        other = Path(named)
        has_own_name = other.name != str(job_id)  # its author's, the same on all hosts
        own = other if has_own_name else self._root / str(job_id)
        if not self._is_marked(other, job_id):
            self.is_split = True
            self.difference = (
                f"The job's files lie in two output directories: {socket.gethostname()} does not"
                f" see {other} of the host that requested the nodes, and uses {own}. Give both"
                " hosts the same shared directory as `output_root`"
            )
        elif own != other:
            self._adopted[job_id] = other
            self.difference = (
                f"The job's output directory is {other}, as on the host that requested the nodes;"
                f" `output_root` {self._root} of this node's settings is not used"
            )

    def _is_marked(self, directory: Path, job_id: UUID) -> bool:
        try:
            return (directory / MARK).read_text().strip() == str(job_id)
        except (OSError, UnicodeDecodeError):
            return False

    def open(self, named: str, job_id: UUID) -> Path:
        """The directory `named` or, if empty, the job's own below the root; created if missing."""
        path = Path(named) if named else self._adopted.get(job_id, self._root / str(job_id))
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
                f"the output directory {path} cannot be created: {error.strerror}"
            ) from error
