"""Reads archives from strangers: plain files within limits, in a stream. Writes nothing.

The limits count what comes out of the compression, so that a small file cannot become a large one
unseen. A name is a path below a root; nothing in an archive leads anywhere else.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Protocol, cast

from engine.errors import AuthorError

LONGEST_PATH = 1024
_OVERHEAD = 4 << 20  # of the archive itself: headers, padding
_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


class BadArchive(AuthorError):
    """It cannot be read, or holds what it may not hold."""


class Readable(Protocol):
    """A stream of bytes, as far as it is needed."""

    def read(self, size: int = -1, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Limits:
    files: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One file. `data` is good until the next one is asked for."""

    path: str
    size: int
    is_program: bool
    data: Readable


def read_tar(stream: Readable, limits: Limits, *, is_gzip: bool) -> Iterator[Entry]:
    """The files in a tar, each path once. Raises BadArchive."""
    bounded = _Bounded(stream, limits.size_bytes + _OVERHEAD + 2048 * limits.files, is_gzip)
    found: set[str] = set()
    folders: set[str] = set()
    left = limits.size_bytes
    try:
        with tarfile.open(fileobj=cast(Any, bounded), mode="r|") as tar:
            for member in tar:
                path = safe_path(member.name)
                if member.isdir():
                    _note(path, found, folders, is_folder=True)
                    continue
                if not member.isreg() or not path:
                    kind = _KINDS.get(member.type, "no plain file")
                    raise BadArchive(f"{_shown(member.name)} is {kind}")
                _note(path, found, folders, is_folder=False)
                left -= member.size
                if left < 0 or len(found) > limits.files:
                    raise _too_much(limits)
                data = tar.extractfile(member)
                assert data is not None, "a regular file has data"
                contents = _Contents(data, limits)
                yield Entry(path, member.size, bool(member.mode & 0o100), contents)
    except _WRONG as error:
        raise _explained(error, limits) from None


def _explained(error: Exception, limits: Limits) -> BadArchive:
    if isinstance(error, _Exceeded):
        return _too_much(limits)
    return BadArchive(f"it is no whole tar file: {error}")


def safe_path(name: str) -> str:
    """`name` as a path below a root; empty for the root itself. Raises BadArchive."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    path = "/".join(parts)
    if name.startswith("/") or ".." in parts or "\\" in name:
        raise BadArchive(f"{_shown(name)} leads out of the directory")
    if not path.isprintable() or len(path.encode("utf-8", "replace")) > LONGEST_PATH:
        raise BadArchive(
            f"{_shown(name)} is no name for a file: control characters, no UTF-8, or more than"
            f" {LONGEST_PATH} bytes"
        )
    return path


def _note(path: str, files: set[str], folders: set[str], *, is_folder: bool) -> None:
    """Each path is one thing, once."""
    above = path.split("/")
    parents = {"/".join(above[:count]) for count in range(1, len(above) + is_folder)}
    if parents & files or (not is_folder and (path in files or path in folders)):
        raise BadArchive(f"{_shown(path)} is in it more than once")
    folders |= parents
    if not is_folder:
        files.add(path)


def _too_much(limits: Limits) -> BadArchive:
    return BadArchive(
        f"it holds more than {limits.files:,} files or {limits.size_bytes >> 20} MB of contents"
    )


def _shown(name: str) -> str:
    return repr(name[:80])


class _Exceeded(Exception):
    pass


_WRONG = (_Exceeded, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, ValueError)


class _Contents(io.RawIOBase):
    """The bytes of one file: its end may be missing, too."""

    def __init__(self, data: IO[bytes], limits: Limits) -> None:
        self._data = data
        self._limits = limits

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        try:
            return self._data.read(size)
        except _WRONG as error:
            raise _explained(error, self._limits) from None


class _Bounded(io.RawIOBase):
    """What comes out of the stream, up to so many bytes."""

    def __init__(self, stream: Readable, most: int, is_gzip: bool) -> None:
        self._stream = gzip.GzipFile(fileobj=cast(Any, stream)) if is_gzip else stream
        self._left = most

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = 1 << 16 if size < 0 else min(size, 1 << 20)
        data = self._stream.read(wanted)
        self._left -= len(data)
        if self._left < 0:
            raise _Exceeded
        return data
