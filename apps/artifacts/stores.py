"""The storage of blobs: a directory, or a bucket. Names never exist twice, so nothing is ever
overwritten. All errors of a storage that does not answer are StorageAway."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, Protocol

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage, storages

from apps.artifacts.errors import StorageAway

PIECE_BYTES = 1 << 20


class Store(Protocol):
    """What we use of Django's storages, and a way to read on from an offset."""

    def save(self, name: str | None, content: IO[Any], max_length: int | None = None) -> str: ...

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
        path = self.path(name)
        if "/" in name:  # never the storage itself, which may only be away
            with suppress(FileExistsError):
                os.mkdir(os.path.dirname(path))
        try:
            with open(path, "xb") as file:
                while piece := content.read(PIECE_BYTES):
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            with suppress(OSError):
                os.unlink(path)
            raise
        self._settle(os.path.dirname(path))
        return name

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
