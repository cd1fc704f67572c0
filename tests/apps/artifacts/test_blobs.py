"""Bytes are whole or absent, exist once, and go after the rows."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db.models import F

from apps.artifacts import blobs, stores
from apps.artifacts.errors import ForeignStorage, StorageAway, TooLarge, Unsteady
from apps.artifacts.models import Blob, Installation
from tests.apps.artifacts.conftest import use

DATA = os.urandom(100_000)


def names_in(storage: Any) -> list[str]:
    if isinstance(storage, Path):
        found = [one for one in storage.rglob("*") if one.is_file()]
        return sorted(one.name for one in found if not one.name.startswith("stroem-"))
    found = [one.key.rpartition("/")[2] for one in storage.objects.all()]
    return sorted(name for name in found if not name.startswith("stroem-"))


def test_what_is_put_is_read_again_in_whole_and_in_part(storage: Any) -> None:
    made = blobs.put(io.BytesIO(DATA))
    assert (made.digest, made.size) == (hashlib.sha256(DATA).hexdigest(), len(DATA))
    with blobs.open_blob(made) as stream:
        assert stream.read() == DATA
    with blobs.open_blob(made, 70_000) as stream:
        assert stream.read() == DATA[70_000:]
    with blobs.open_blob(made, 10, 5) as stream:
        assert stream.read(5) == DATA[10:15]


def test_an_empty_file_is_a_blob(storage: Any) -> None:
    made = blobs.put(io.BytesIO(b""))
    with blobs.open_blob(made) as stream:
        assert stream.read() == b""


def test_equal_bytes_are_stored_once(storage: Any) -> None:
    assert blobs.put(io.BytesIO(DATA)) == blobs.put(io.BytesIO(DATA))
    assert len(names_in(storage)) == 1


def test_a_pipe_is_put_as_well(storage: Any) -> None:
    with subprocess.Popen(["printf", "hello"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        made = blobs.put(process.stdout)
    assert made.digest == hashlib.sha256(b"hello").hexdigest()


def test_of_two_equal_uploads_at_once_one_stays(
    storage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins before the first is marked as whole."""
    seen: list[blobs.Stored] = []
    finish = blobs._finish

    def late(row: Blob, digest: str, size: int) -> blobs.Stored:
        if not seen:
            monkeypatch.setattr(blobs, "_finish", finish)
            seen.append(blobs.put(io.BytesIO(DATA)))
        return finish(row, digest, size)

    monkeypatch.setattr(blobs, "_finish", late)
    assert blobs.put(io.BytesIO(DATA)) == seen[0]
    Blob.objects.filter(stored_at=None).update(used_at=F("used_at") - timedelta(days=3))
    assert blobs.clear_unused() == 1
    assert len(names_in(storage)) == 1


def test_a_storage_that_fails_leaves_no_blob_and_the_rest_is_cleared_away(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageAway, match="does not answer: No space left on device"):
        blobs.put(io.BytesIO(DATA))
    monkeypatch.undo()
    assert not Blob.objects.filter(stored_at__isnull=False).exists()
    assert names_in(directory) == []
    assert blobs.clear_unused() == 1
    assert not Blob.objects.exists()


def test_what_a_killed_upload_left_is_cleared_away_later(storage: Any) -> None:
    row = Blob.objects.create(key="ab/left")
    stores.store().save(row.key, io.BytesIO(b"half"))  # type: ignore[arg-type]
    assert blobs.clear_unused() == 0
    Blob.objects.update(used_at=F("used_at") - timedelta(days=3))
    assert blobs.clear_unused() == 1
    assert names_in(storage) == []


def test_a_blob_in_use_stays_and_one_that_no_row_names_goes(storage: Any) -> None:
    made = blobs.put(io.BytesIO(DATA))
    assert blobs.clear_unused() == 0
    Blob.objects.update(used_at=F("used_at") - timedelta(hours=25))
    assert blobs.put(io.BytesIO(DATA)) == made
    assert blobs.clear_unused() == 0
    Blob.objects.update(used_at=F("used_at") - timedelta(hours=25))
    assert blobs.clear_unused() == 1
    assert names_in(storage) == []


def test_a_file_that_changes_meanwhile_is_refused(directory: Path, tmp_path: Path) -> None:
    class Growing(io.BytesIO):
        def seek(self, *args: int) -> int:
            self.write(b"more")
            return super().seek(*args)

    with pytest.raises(Unsteady):
        blobs.put(Growing(DATA))
    assert blobs.clear_unused() == 1


def test_a_limit_is_told_before_anything_is_stored(directory: Path) -> None:
    with pytest.raises(TooLarge, match="more than 99,999 bytes"):
        blobs.put(io.BytesIO(DATA), at_most=99_999)
    assert names_in(directory) == []


def test_a_worker_with_a_disk_of_its_own_is_refused(
    directory: Path, settings: Any, tmp_path: Path
) -> None:
    made = blobs.put(io.BytesIO(DATA))
    use(settings, "stores.Directory", location=tmp_path / "own")
    with pytest.raises(ForeignStorage, match="is not the storage of this installation"):
        blobs.put(io.BytesIO(b"more"))
    with pytest.raises(ForeignStorage):
        blobs.open_blob(made)


def test_a_directory_that_was_unmounted_is_waited_for_and_not_written_to(directory: Path) -> None:
    blobs.put(io.BytesIO(DATA))
    away = directory.rename(directory.with_name("away"))
    for is_there in (False, True):  # the place where it is mounted may stay
        if is_there:
            directory.mkdir()
        with pytest.raises(StorageAway, match="has lost its mark"):
            blobs.put(io.BytesIO(b"more"))
    assert names_in(directory) == []
    directory.rmdir()
    away.rename(directory)
    blobs.put(io.BytesIO(b"more"))
    assert len(names_in(directory)) == 2


def test_another_storage_is_taken_as_long_as_nothing_is_stored(
    directory: Path, settings: Any, tmp_path: Path
) -> None:
    use(settings, "stores.Directory", location=tmp_path / "second")
    blobs.establish()
    blobs.put(io.BytesIO(DATA))
    use(settings, "stores.Directory", location=tmp_path / "third")
    blobs.establish()
    with pytest.raises(ForeignStorage):
        blobs.put(io.BytesIO(b"more"))


def test_nobody_stores_before_the_storage_is_marked(directory: Path) -> None:
    Installation.objects.all().delete()
    blobs._mark_of_ours.cache_clear()
    with pytest.raises(StorageAway, match="no server or scheduler has prepared the storage"):
        blobs.put(io.BytesIO(DATA))


def test_a_bucket_that_does_not_answer_is_told(settings: Any, db: None) -> None:
    use(
        settings, "buckets.Bucket", bucket_name="files", region_name="us-east-1", addressing="path",
        endpoint_url="http://127.0.0.1:9", access_key="test", secret_key="test",
    )  # fmt: skip
    with pytest.raises(StorageAway, match="the bucket files does not answer: Could not connect"):
        blobs.establish()


@pytest.mark.long
def test_boto3_is_imported_only_for_a_bucket() -> None:
    code = (
        "import django; django.setup(); from apps.artifacts import blobs, stores; stores.store();"
        " import sys; assert 'boto3' not in sys.modules"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "stroem_project.settings"},
    )
