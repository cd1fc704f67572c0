"""The files of one state of a workspace. Digest and archive do not depend on the source."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from apps.workspaces.errors import SourceError
from engine.spec.model import Place, Problem

FILE_MODE, PROGRAM_MODE = 0o644, 0o755
LONGEST_PATH = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the size of a workspace and on the time to read it."""

    files: int = 20_000
    bytes: int = 200_000_000
    depth: int = 32
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class SourceFile:
    path: str  # relative, with `/`
    content: bytes = field(repr=False)
    is_program: bool = False

    @property
    def mode(self) -> int:
        return PROGRAM_MODE if self.is_program else FILE_MODE


@dataclass(frozen=True, slots=True)
class Tree:
    """`label` is the commit id of a git source. `warnings` name skipped files."""

    files: tuple[SourceFile, ...]
    label: str = ""
    warnings: tuple[Problem, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over paths, modes and contents, in order of paths."""
        total = hashlib.sha256()
        for file in self.files:
            head = f"{file.mode:o} {len(file.content)} {file.path}\0"
            total.update(head.encode() + hashlib.sha256(file.content).digest())
        return total.hexdigest()

    def archive(self) -> bytes:
        """tar.gz: equal trees give equal bytes. Only directories and regular files, modes 0755 and
        0644."""
        buffer = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, compresslevel=6) as squeezed,
            tarfile.open(fileobj=squeezed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in _directories(self.files):
                archive.addfile(_entry(path, tarfile.DIRTYPE, PROGRAM_MODE, 0))
            for file in self.files:
                entry = _entry(file.path, tarfile.REGTYPE, file.mode, len(file.content))
                archive.addfile(entry, io.BytesIO(file.content))
        return buffer.getvalue()


def _directories(files: Iterable[SourceFile]) -> list[str]:
    found = {str(parent) for file in files for parent in PurePosixPath(file.path).parents}
    return sorted(found - {"."})


def _entry(path: str, kind: bytes, mode: int, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.size, entry.mtime = kind, mode, size, 0
    return entry


class Gatherer:
    """Collects files within the limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._files: dict[str, SourceFile] = {}
        self._size = 0
        self._warnings: list[Problem] = []

    def room_for(self, path: str, size: int) -> None:
        """Raises SourceError if another file of this size would exceed a limit; call before reading
        it."""
        if len(self._files) >= self.limits.files:
            raise SourceError(
                f"the workspace holds more than {self.limits.files} files; leave out what is"
                " generated"
            )
        if self._size + size > self.limits.bytes:
            most = self.limits.bytes // 1_000_000
            raise SourceError(
                f"the workspace is larger than {most} MB (at '{path}'); keep data outside of it"
            )

    def add(self, path: str, content: bytes, *, is_program: bool) -> None:
        self.room_for(path, len(content))
        self._files[path] = SourceFile(path, content, is_program)
        self._size += len(content)

    def leave_out(self, path: str, why: str) -> None:
        if len(self._warnings) < 100:
            self._warnings.append(
                Problem(Place(_shown(path)), "left_out", f"left out: {why}", "warning")
            )

    def accepts(self, path: str) -> bool:
        """False, with a warning, for names that not every worker can store."""
        problem = _name_problem(path)
        if problem:
            self.leave_out(path, problem)
        return problem is None

    def tree(self, label: str = "") -> Tree:
        return Tree(
            tuple(self._files[path] for path in sorted(self._files)), label, tuple(self._warnings)
        )


def _name_problem(path: str) -> str | None:
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if len(encoded) > LONGEST_PATH or any(len(part.encode()) > 255 for part in path.split("/")):
        return "its name is too long"
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in path) or "\\" in path:
        return "its name contains a control character or a backslash"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "its name leads out of the workspace"
    if any(part.lower() == ".git" for part in path.split("/")):
        return "it belongs to git"
    return None


def _shown(path: str) -> str:
    return path.encode("utf-8", "backslashreplace").decode()[:300]
