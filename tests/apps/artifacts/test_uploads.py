"""After an outage an upload goes on: what the storage has is not sent again."""

from __future__ import annotations

import hashlib
import io
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from django.db import OperationalError
from django.db.models import F

from apps.artifacts import blobs, buckets, stores
from apps.artifacts.blobs import Upload
from apps.artifacts.errors import StorageAway, Unsteady
from apps.artifacts.models import Blob
from apps.artifacts.stores import Source
from tests.apps.artifacts.test_blobs import names_in

DATA = os.urandom(21 << 20)  # three parts of a bucket
PART = 8 << 20


class File(io.BytesIO):
    """A file that notes how much of it is read, and cannot be read beyond `until` at first."""

    def __init__(self, until: int = len(DATA) + 1) -> None:
        super().__init__(DATA)
        self.until = until
        self.is_measured = False
        self.pieces: list[tuple[int, int]] = []

    def read(self, size: int | None = -1, /) -> bytes:
        at = self.tell()
        if self.is_measured and at >= self.until:
            self.until = len(DATA) + 1
            raise OSError(5, "Input/output error")
        piece = super().read(size)
        if self.is_measured:
            self.pieces.append((at, len(piece)))
        self.is_measured = self.is_measured or not piece
        return piece

    @property
    def sent(self) -> int:
        return sum(size for _, size in self.pieces)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "SETTLE_BYTES", PART)


def broken(file: File) -> Upload:
    """An upload that was interrupted."""
    upload = Upload(file)
    with pytest.raises(StorageAway):
        upload.go_on()
    assert not Blob.objects.filter(stored_at__isnull=False).exists()
    file.pieces.clear()
    return upload


def check(made: blobs.Stored) -> None:
    assert (made.digest, made.size) == (hashlib.sha256(DATA).hexdigest(), len(DATA))
    with blobs.open_blob(made) as stream:
        assert hashlib.file_digest(stream, "sha256").hexdigest() == made.digest  # type: ignore[arg-type]


def test_only_what_is_missing_is_sent_again(storage: Any) -> None:
    file = File(until=2 * PART)
    upload = broken(file)
    made = upload.go_on()
    assert file.pieces[0][0] == 2 * PART and file.sent == len(DATA) - 2 * PART
    check(made)
    assert len(names_in(storage)) == 1 and Blob.objects.count() == 1
    assert upload.go_on() == made  # its answer was lost


def test_a_database_that_is_away_costs_no_byte(
    storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, finish = File(), blobs._finish

    def away(*_: Any) -> None:
        monkeypatch.setattr(blobs, "_finish", finish)
        raise OperationalError("no database")

    monkeypatch.setattr(blobs, "_finish", away)
    upload = Upload(file)
    with pytest.raises(OperationalError):
        upload.go_on()
    file.pieces.clear()
    check(upload.go_on())
    assert file.sent == 0


@pytest.mark.parametrize("rest", [None, PART - 1, 2 * PART + 5])
def test_a_directory_that_came_back_otherwise_is_written_anew(
    directory: Path, rest: int | None
) -> None:
    """Its file is gone, shorter, or has bytes behind what was settled."""
    upload = broken(File(until=2 * PART))
    (path,) = (path for path in directory.rglob("*-*") if path.parent != directory)
    if rest is None:
        path.unlink()
    else:
        os.truncate(path, rest)
    check(upload.go_on())


def test_an_upload_that_the_bucket_has_dropped_begins_anew() -> None:
    source = Source(io.BytesIO(DATA))
    source.read(PART)
    source.ref = ("id", [{"PartNumber": 1}])
    source.settle()
    error = ClientError({"Error": {"Code": "NoSuchUpload"}}, "UploadPart")
    with pytest.raises(OSError), buckets._as_os_errors(source):
        raise error
    source.go_back()
    assert (source.ref, source.settled, source.read(5)) == (None, 0, DATA[:5])


def test_what_is_given_up_leaves_nothing(storage: Any) -> None:
    upload = broken(File(until=2 * PART))
    upload.give_up()
    assert names_in(storage) == []
    assert isinstance(storage, Path) or list(storage.multipart_uploads.all()) == []
    assert blobs.clear_unused() == 1 and not Blob.objects.exists()


def test_parts_of_a_killed_upload_are_cleared_away_later(storage: Any) -> None:
    broken(File(until=2 * PART))
    assert blobs.clear_unused() == 0
    Blob.objects.update(used_at=F("used_at") - timedelta(days=3))
    assert blobs.clear_unused() == 1
    assert names_in(storage) == []
    assert isinstance(storage, Path) or list(storage.multipart_uploads.all()) == []


def test_a_file_that_has_changed_meanwhile_is_refused(storage: Any) -> None:
    file = File(until=2 * PART)
    upload = broken(file)
    file.seek(2 * PART)
    file.write(b"other")
    with pytest.raises(Unsteady):
        upload.go_on()
    upload.give_up()
    assert not Blob.objects.filter(stored_at__isnull=False).exists() and names_in(storage) == []
