"""What a step leaves in its container, fetched as archives once it has ended: the engine may run on
another host, and the files may belong to any user of the image."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from engine import globs
from engine.errors import AuthorError, StroemError
from engine.orders import ScriptWork, Shelves, StepOrder, StepOutcome, Verdict
from engine.resources import show_bytes
from runners import anchored
from runners.containers.script import LEFT, place_workdir
from runners.docker.connection import Connection
from runners.docker.errors import EngineRefused

_CHUNK_BYTES = 1 << 20


class Shelf:
    """The artifacts of one attempt."""

    def __init__(
        self, connection: Connection, order: StepOrder, say: Callable[[str], None]
    ) -> None:
        self._connection = connection
        self._order = order
        self._say = say

    def place(self, container: str) -> None:
        """Make the directory in a container that has not started; any user of its may write."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            entry = tarfile.TarInfo(LEFT.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(entry)
        archive.seek(0)
        self._connection.call("put_archive", container, "/", archive)

    def fetch(self, container: str, outcome: StepOutcome) -> StepOutcome:
        """Fill the order's directory, if files of this outcome are wanted."""
        shelves = self._order.shelves
        has_failed = outcome.verdict in (Verdict.FAILED, Verdict.TIMED_OUT)
        has_succeeded = outcome.verdict is Verdict.SUCCEEDED
        if shelves is None or not (has_succeeded or (has_failed and shelves.on_failure)):
            return outcome
        try:
            unpacking = _Unpacking(shelves, self._say)
            self._unpack(container, LEFT, unpacking)
            for glob in shelves.paths if isinstance(self._order.work, ScriptWork) else ():
                self._fetch_matching(container, glob, unpacking)
        except StroemError as error:
            if has_succeeded:
                raise
            return replace(outcome, error=f"{outcome.error or ''}\n{error}".strip())
        return outcome

    def _fetch_matching(self, container: str, glob: str, unpacking: _Unpacking) -> None:
        start, matches = globs.folder_of(glob), globs.matcher([glob])
        root = str(PurePosixPath(place_workdir(self._order.workdir), start))
        found = 0
        with suppress(_NotThere):
            found = self._unpack(container, root, unpacking, f"{start}/" if start else "", matches)
        if not found:
            self._say(f"Warning: no file matches `{glob}` of `artifacts.paths`")

    def _unpack(
        self,
        container: str,
        root: str,
        unpacking: _Unpacking,
        prefix: str = "",
        matches: Callable[[str], bool] | None = None,
    ) -> int:
        """How many files came out of the directory `root` of the container."""
        try:
            with self._connection.open() as client:
                chunks, about = client.get_archive(container, root, chunk_size=_CHUNK_BYTES)
                if about.get("linkTarget"):
                    raise _NotThere
                stream = io.BufferedReader(_Stream(chunks), _CHUNK_BYTES)
                with tarfile.open(fileobj=stream, mode="r|", bufsize=_CHUNK_BYTES) as tar:
                    return unpacking.take(tar, prefix, matches)
        except EngineRefused as refusal:
            if refusal.status == 404:
                raise _NotThere from refusal
            raise


class _NotThere(AuthorError):
    """The container has no such directory."""


class _Unpacking:
    """Writes regular files of archives below `left`, and nothing else."""

    def __init__(self, shelves: Shelves, say: Callable[[str], None]) -> None:
        self._left = shelves.left
        self._most = shelves.most_bytes
        self._say = say
        self._bytes = 0
        self._known: dict[str, str] = {}  # name -> the archive it came from

    def take(self, tar: tarfile.TarFile, prefix: str, matches: Callable[[str], bool] | None) -> int:
        source, found = "paths" if matches else "", 0
        for entry in tar:
            _, _, rest = entry.name.partition("/")
            name = prefix + rest
            if entry.isdir() or (matches is not None and not matches(name)):
                continue
            if not (entry.isreg() or entry.islnk()):
                self._say(f"Warning: the artifact {name!r} is no regular file, and is left out")
                continue
            found += 1
            if name in self._known:
                if self._known[name] == source:
                    continue  # two globs
                raise AuthorError(f"{name!r} is both in ARTIFACTS_DIR and named by `paths`")
            self._known[name] = source
            self._write(tar, entry, name, prefix)
        return found

    def _write(self, tar: tarfile.TarFile, entry: tarfile.TarInfo, name: str, prefix: str) -> None:
        self._bytes += entry.size
        if self._bytes > self._most:
            raise AuthorError(
                f"The artifacts have more than {show_bytes(self._most)}, which is all that a job"
                " may leave (`artifacts.job_mb`)"
            )
        with ExitStack() as opened:
            fd, last = _enter(opened, self._left, name)
            if entry.islnk():  # in the archive it stands for a file before it
                target = prefix + entry.linkname.partition("/")[2]
                other, name_there = _enter(opened, self._left, target)
                os.link(name_there, last, src_dir_fd=other, dst_dir_fd=fd, follow_symlinks=False)
                return
            content = tar.extractfile(entry)
            mode = 0o700 if entry.mode & stat.S_IXUSR else 0o600
            made = os.open(last, anchored.FRESH, mode, dir_fd=fd)
            try:
                while content is not None and (piece := content.read(_CHUNK_BYTES)):
                    anchored.write_all(made, piece)
            finally:
                os.close(made)


def _enter(opened: ExitStack, root: Path, name: str) -> tuple[int, str]:
    """The descriptor of the directory of `name`, made if need be, and its last part."""
    *folders, last = name.split("/")
    if any(part in ("", ".", "..") for part in (*folders, last)):
        raise AuthorError(f"the artifact {name!r} has no name that a file may have")
    fd = opened.enter_context(anchored.folder(root))
    for part in folders:
        with suppress(FileExistsError):
            os.close(anchored.make_folder(part, fd))
        fd = opened.enter_context(anchored.folder(part, fd))
    return fd, last


class _Stream(io.RawIOBase):
    """The engine's chunks as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest and (piece := next(self._chunks, None)) is not None:
            self._rest = memoryview(piece)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
