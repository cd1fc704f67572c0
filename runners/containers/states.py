"""Directories of state in and out of containers, as tar archives.

What comes out of a container is a stranger's: only plain files within limits are taken, and each is
written by name below a directory of this worker.
"""

from __future__ import annotations

import base64
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from engine import archives
from engine.archives import BadArchive
from engine.errors import AuthorError
from engine.orders import STATE_VARIABLES, StateFolders
from engine.state import MOST_FILE_BYTES, MOST_FILES
from runners import anchored

OUT = tuple(name for name in STATE_VARIABLES if "_OUT_" in name)
_LIMITS = archives.Limits(MOST_FILES + 1, MOST_FILE_BYTES)
_PIECE = 1 << 20


def pack(folders: StateFolders, out: IO[bytes]) -> None:
    """All four directories below the root of a container: what it may read, and where it may
    write."""
    with tarfile.open(fileobj=out, mode="w") as tar:
        for variable, folder in folders.by_variable.items():
            target = STATE_VARIABLES[variable].lstrip("/")
            entry = tarfile.TarInfo(target)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777 if variable in OUT else 0o755
            tar.addfile(entry)
            _add(tar, folder, f"{target}/")


def pack_one(folder: Path) -> str:
    """The files of one directory as tar.gz in base64; empty if there are none."""
    if not any(folder.iterdir()):
        return ""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        _add(tar, folder, "")
    return base64.b64encode(packed.getvalue()).decode("ascii")


def _add(tar: tarfile.TarFile, folder: Path, prefix: str) -> None:
    """What the worker has put into the directory, readable by every user of an image."""
    for path in sorted(folder.rglob("*")):
        entry = tar.gettarinfo(path, prefix + str(path.relative_to(folder)))
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = ""
        entry.mode = 0o755 if entry.isdir() or entry.mode & 0o100 else 0o644
        if entry.isdir():
            tar.addfile(entry)
        else:
            with open(path, "rb") as data:
                tar.addfile(entry, data)


def unpack(
    stream: archives.Readable,
    folder: Path,
    variable: str,
    *,
    below: str = "",
    is_gzip: bool = False,
) -> None:
    """Write the files of an archive into an empty directory. `below`: the directory in the archive
    that holds them. Raises AuthorError."""
    try:
        with anchored.folder(folder) as root:
            for entry in archives.read_tar(stream, _LIMITS, is_gzip=is_gzip):
                path = entry.path.removeprefix(f"{below}/") if below else entry.path
                _write(entry, path, root)
    except BadArchive as wrong:
        raise AuthorError(f"{variable} cannot be kept: {wrong}") from None


def _write(entry: archives.Entry, path: str, root: int) -> None:
    *parents, name = path.split("/")
    fd = os.dup(root)
    try:
        for parent in parents:
            with suppress(FileExistsError):
                os.mkdir(parent, 0o700, dir_fd=fd)
            inner = os.open(parent, anchored.FOLDER, dir_fd=fd)
            os.close(fd)
            fd = inner
        out = os.open(name, anchored.FRESH, 0o700 if entry.is_program else 0o600, dir_fd=fd)
        try:
            while piece := entry.data.read(_PIECE):
                anchored.write_all(out, piece)
        finally:
            os.close(out)
    finally:
        os.close(fd)


class Chunks(io.RawIOBase):
    """A stream of what an iterator brings."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self._rest:
            try:
                self._rest = next(self._chunks)
            except StopIteration:
                return b""
        wanted = len(self._rest) if size < 0 else size
        piece, self._rest = self._rest[:wanted], self._rest[wanted:]
        return piece
