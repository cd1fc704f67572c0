"""The storage of blobs: a directory, or a bucket. Names never exist twice, so nothing is ever
overwritten. All errors of a storage that does not answer are StorageAway."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, BinaryIO, Protocol

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage, storages

from apps.artifacts.errors import StorageAway

PIECE_BYTES = 1 << 20
SETTLE_BYTES = 64 << 20  # of a directory: what an outage costs at most


class Source:
    """A file on its way into the storage, read from where it is settled: everything before that is
    there for good, and is not sent again. `ref`: what the storage calls the unfinished upload."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._start = stream.tell()
        self.ref: Any = None
        self.forget()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def forget(self) -> None:
        """The storage has lost what it had."""
        self.ref, self.size, self.settled = None, 0, 0
        self._hash = hashlib.sha256()
        self._settled_hash = self._hash.copy()

    def settle(self) -> None:
        """Everything that was read is in the storage."""
        self.settled, self._settled_hash = self.size, self._hash.copy()

    def go_back(self) -> None:
        """To where it is settled."""
        self._stream.seek(self._start + self.settled)
        self.size, self._hash = self.settled, self._settled_hash.copy()

    def read(self, size: int) -> bytes:
        piece = self._stream.read(size)
        self._hash.update(piece)
        self.size += len(piece)
        return piece


class Store(Protocol):
    """What we use of Django's storages, and a way to read on from an offset."""

    def save(self, name: str | None, content: IO[Any], max_length: int | None = None) -> str: ...

    def append(self, name: str, source: Source) -> None:
        """Store the rest of `source`, and settle on the way. May be repeated after an error."""
        ...

    def abandon(self, name: str, source: Source | None) -> None:
        """Remove what has come of it; None: of an upload whose process is gone."""
        ...

    def open_at(self, name: str, offset: int, length: int) -> IO[bytes]: ...

    def delete(self, name: str) -> None: ...

    def exists(self, name: str) -> bool: ...

    def where(self) -> str: ...

    def prepare(self) -> None: ...


def store() -> Store:
    found: Any = storages["blobs"]
    return found  # type: ignore[no-any-return]


class Directory(FileSystemStorage):
    """A directory that server and workers share. What is saved has reached the disk."""

    def _save(self, name: str, content: File[Any]) -> str:
        self.append(name, Source(content))  # type: ignore[arg-type]  # a file of Django's
        return name

    def append(self, name: str, source: Source) -> None:
        path = self.path(name)
        if "/" in name:  # never the storage itself, which may only be away
            with suppress(FileExistsError):
                os.mkdir(os.path.dirname(path))
        with self._opened(path, source) as file:
            while piece := source.read(PIECE_BYTES):
                file.write(piece)
                if source.size - source.settled >= SETTLE_BYTES:
                    self._sync(file, source)
            self._sync(file, source)
        self._settle(os.path.dirname(path))

    def _opened(self, path: str, source: Source) -> BinaryIO:
        """The file, at the end of what is settled."""
        if source.settled:
            with suppress(FileNotFoundError):
                file = open(path, "r+b")  # noqa: SIM115  (the caller closes it)
                if file.seek(0, os.SEEK_END) >= source.settled:
                    file.truncate(source.settled)
                    file.seek(source.settled)
                    return file
                file.close()
            source.forget()
            source.go_back()
        return open(path, "wb")

    def _sync(self, file: BinaryIO, source: Source) -> None:
        file.flush()
        os.fsync(file.fileno())
        source.settle()

    def abandon(self, name: str, source: Source | None) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.path(name))

    def _settle(self, folder: str) -> None:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def prepare(self) -> None:
        """Make the directory, if it is not there."""
        os.makedirs(self.location, 0o700, exist_ok=True)

    def open_at(self, name: str, offset: int, length: int) -> IO[bytes]:
        file = open(self.path(name), "rb")  # noqa: SIM115  (the caller closes it)
        file.seek(offset)
        return file

    def where(self) -> str:
        return f"the directory {self.location}"


@contextmanager
def told() -> Iterator[None]:
    """Errors of the storage as StorageAway."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StorageAway(f"{store().where()} does not answer: {reason}") from error
