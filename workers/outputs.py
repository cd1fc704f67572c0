"""The output directory that a job's steps and workflow actions share on this host."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from engine.errors import PlatformError
from engine.plain import plain
from runners import anchored
from runners.host.environment import User, act_as

_GROUP_MODE = 0o2770  # what is made in it is the group's
MARK = ".stroem-job"  # a file with the id of the job whose directory it is in
log = logging.getLogger("stroem.worker")


class Outputs:
    """Output directories on this host. Thread-safe."""

    def __init__(
        self,
        root: Path,
        user: User | None = None,
        *,
        is_for_group: bool = False,
        tell: Callable[[UUID, str, str], str] = lambda job_id, directory, host: "",
    ) -> None:
        """`root` holds a directory for each job; `user`: the one that steps run as, if not the
        worker's. What is not the worker's alone is touched as this user. `is_for_group`: steps run
        as other users of its group, too. `tell` notes where a job's own directory is, and returns
        how that of another host differs."""
        self._root = root
        self._user = user
        self._is_for_group = is_for_group
        self._made: set[Path] = set()
        self._adopted: dict[UUID, Path] = {}
        self._tell = tell
        self._differences: dict[UUID, str] = {}
        self.difference = ""  # how this host's directory is not the one of the job's other hosts
        self._has_adopted = False  # the only job of this worker: what differs is told already

    def offer(self, job_id: UUID, directory: Path) -> None:
        """Let a host that gets nodes of this job recognise the job's `directory` here."""
        try:
            if self._user is None:
                (directory / MARK).write_text(f"{job_id}\n")
            else:
                act_as(self._user, "tee", "--", str(directory / MARK), text=f"{job_id}\n")
        except OSError as error:
            log.warning("%s cannot be marked: %s", directory, error.strerror)

    def adopt(self, job_id: UUID, named: str) -> None:
        """Use the directory that the host which requested this one's nodes gave the job, if it is
        here; else say so."""
        other = Path(named)
        has_own_name = other.name != str(job_id)  # its author's, the same on all hosts
        own = other if has_own_name else self._root / str(job_id)
        self._has_adopted = True
        if not self._is_marked(other, job_id):
            self.difference = (
                f"The job's files lie in two output directories: {socket.gethostname()} does not"
                f" see {other} of the host that requested the nodes, and uses {own}. Give both"
                " hosts the same shared directory as `output_root`"
            )
            self._differences[job_id] = self.difference
        elif own != other:
            self._adopted[job_id] = other
            self.difference = (
                f"The job's output directory is {other}, as on the host that requested the nodes;"
                f" `output_root` {self._root} of this node's settings is not used"
            )

    def _is_marked(self, directory: Path, job_id: UUID) -> bool:
        file = directory / MARK
        try:
            found = file.read_text() if self._user is None else self._read(file)
            return found.strip() == str(job_id)
        except (OSError, UnicodeDecodeError):
            return False

    def open(self, named: str, job_id: UUID) -> Path:
        """The directory `named` or, if empty, the job's own below the root; created if missing."""
        path = Path(named) if named else self._adopted.get(job_id, self._root / str(job_id))
        if path not in self._made:
            self._make(path)
            if not named and not self._has_adopted:
                self._compare(path, job_id)
            self._made.add(path)
        return path

    def difference_of(self, job_id: UUID) -> str:
        """How the job's files come to lie in several directories; empty if they do not."""
        return self._differences.get(job_id, "")

    def warn(self, job_id: UUID, say: Callable[[str], None]) -> None:
        """Say that difference to whoever reads a log of the job."""
        if difference := self.difference_of(job_id):
            say(difference)

    def _compare(self, path: Path, job_id: UUID) -> None:
        if found := self._tell(job_id, str(path.resolve()), socket.gethostname()):
            self._differences[job_id] = found
            log.warning("%s", found)

    def _read(self, file: Path) -> str:
        assert self._user is not None
        return act_as(self._user, "head", "-c", "100", "--", str(file))

    def _make(self, path: Path) -> None:
        try:
            if self._user is None:
                path.mkdir(parents=True, exist_ok=True)
            elif path.parent == self._root and self._is_root_own():
                self._make_own(path.name, self._user)
            else:
                mode = ("-m", f"{_GROUP_MODE:o}") if self._is_for_group else ()
                act_as(self._user, "mkdir", "-p", *mode, "--", str(path))
        except OSError as error:
            raise PlatformError(
                f"the output directory {plain(path)} cannot be created: {error.strerror}"
            ) from error

    def _is_root_own(self) -> bool:
        """Whether only this worker's user may change names below the root; created if missing."""
        if not self._root.exists():
            self._root.mkdir(mode=0o711, parents=True)
            self._root.chmod(0o711)
        found = self._root.stat()
        return found.st_uid == os.geteuid() and not found.st_mode & 0o022

    def _make_own(self, name: str, user: User) -> None:
        with anchored.folder(self._root.resolve()) as root:
            try:
                made = anchored.make_folder(name, root, 0o777)
            except FileExistsError:
                return
            anchored.give(made, user.owner, _GROUP_MODE if self._is_for_group else None)
