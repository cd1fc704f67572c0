"""The worker's door to the files of states."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO

from django.db import OperationalError, connections

from apps.artifacts import blobs
from apps.artifacts.blobs import Stored
from apps.artifacts.errors import ForeignStorage, StorageAway
from engine.state import StateFile


def open_file(file: StateFile) -> IO[bytes]:
    """Its bytes; the caller closes them. Raises OperationalError while the storage is away."""
    with _as_outage():
        return blobs.open_blob(Stored(file.blob, file.digest, file.size))


def store_file(path: str, data: BinaryIO, *, is_program: bool) -> StateFile:
    """Store the rest of this stream. It is kept once the step's report names it, within the hour.
    Raises OperationalError while the storage is away, or another one is in its place."""
    with _as_outage():
        try:
            stored = blobs.put(data)
        except ForeignStorage as error:  # its directory may not be mounted
            raise StorageAway(str(error)) from error
    return StateFile(path, stored.size, stored.digest, is_program, stored.id)


def released() -> None:
    """Return this thread's database connection."""
    connections.close_all()


@contextmanager
def _as_outage() -> Iterator[None]:
    """For a worker, a storage that is away is as a database that is: it tries again."""
    try:
        yield
    except StorageAway as error:
        raise OperationalError(str(error)) from error
