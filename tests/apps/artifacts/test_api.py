"""Artifacts over HTTP: the list, bytes and ranges of them, one zip."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from apps.accounts.models import Role
from apps.artifacts import blobs
from apps.artifacts.models import Artifact, Blob
from apps.jobs.models import Job
from tests.apps.api.callers import caller
from tests.apps.artifacts.builders import shelve
from tests.apps.artifacts.conftest import use
from tests.apps.jobs.builders import start, workspace

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume asynchronous"),
]
FLOW = """
tasks:
  main:
    flow:
      build: {type: script, script: "true"}
      test: {type: script, script: "true"}
"""


@pytest.fixture
def job(tmp_path: Path, storage: Any) -> Job:
    return start(workspace(tmp_path, FLOW))


def body(answer: Any) -> bytes:
    return b"".join(answer) if answer.streaming else bytes(answer.content)


def test_the_list_says_what_the_specification_says(job: Job) -> None:
    shelve(job, "build", {"dir/re port.html": b"<html>x", "a.txt": b"text"})
    found = caller(Role.VIEWER).get(f"/api/jobs/{job.pk}/artifacts").json()
    first = found[0]
    assert {
        key: first[key] for key in ("name", "content_type", "size_bytes", "step_name", "url")
    } == {
        "name": "dir/re port.html",
        "content_type": "text/html",
        "size_bytes": 7,
        "step_name": "build",
        "url": f"/api/jobs/{job.pk}/artifacts/dir%2Fre%20port.html",
    }
    assert first["created_at"] and len(found) == 2
    answer = caller(Role.VIEWER).get(first["url"])
    assert body(answer) == b"<html>x"


def test_bytes_come_whole_and_in_ranges(job: Job) -> None:
    shelve(job, "build", {"a.bin": bytes(range(256)) * 4})
    client, url = caller(Role.VIEWER), f"/api/v1/jobs/{job.pk}/artifacts/a.bin"
    whole = client.get(url)
    assert (whole.status_code, body(whole)) == (200, bytes(range(256)) * 4)
    assert whole["Content-Length"] == "1024" and whole["Accept-Ranges"] == "bytes"
    for asked, expected, content_range in (
        ("bytes=0-3", bytes(range(4)), "bytes 0-3/1024"),
        ("bytes=1020-", bytes(range(252, 256)), "bytes 1020-1023/1024"),
        ("bytes=-2", b"\xfe\xff", "bytes 1022-1023/1024"),
        ("bytes=1020-9999", bytes(range(252, 256)), "bytes 1020-1023/1024"),
    ):
        part = client.get(url, HTTP_RANGE=asked)
        assert (part.status_code, body(part)) == (206, expected)
        assert part["Content-Range"] == content_range
    beyond = client.get(url, HTTP_RANGE="bytes=1024-")
    assert (beyond.status_code, beyond["Content-Range"]) == (416, "bytes */1024")
    for asked in ("bytes=0-1,4-5", "bytes=5-2", "lines=1-2", "bytes=-", "bytes=a-"):
        assert client.get(url, HTTP_RANGE=asked).status_code == 200
    assert client.get(url, HTTP_RANGE="bytes=0-1", HTTP_IF_RANGE='"old"').status_code == 200
    assert client.get(url, HTTP_IF_NONE_MATCH=whole["ETag"]).status_code == 304
    head = client.head(url)
    assert (head.status_code, head["Content-Length"], body(head)) == (200, "1024", b"")


def test_an_empty_file_is_served(job: Job) -> None:
    shelve(job, "build", {"empty": b""})
    answer = caller(Role.VIEWER).get(f"/api/jobs/{job.pk}/artifacts/empty")
    assert (answer.status_code, body(answer)) == (200, b"")
    ranged = caller(Role.VIEWER).get(f"/api/jobs/{job.pk}/artifacts/empty", HTTP_RANGE="bytes=0-")
    assert ranged.status_code == 416


def test_all_come_as_one_zip(job: Job) -> None:
    shelve(job, "build", {"a/b.txt": b"one" * 1000, "c.bin": b"\0" * 700_000})
    shelve(job, "test", {"a/b.txt": b"two"})
    Artifact.objects.filter(name="c.bin").update(is_program=True)
    listed = caller(Role.VIEWER).get(f"/api/jobs/{job.pk}/artifacts").json()
    assert [one["is_program"] for one in listed] == [False, True, False]
    answer = caller(Role.VIEWER).get(f"/api/jobs/{job.pk}/artifacts.zip")
    assert answer["Content-Type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(body(answer))) as found:
        assert found.testzip() is None
        names = {name: found.read(name) for name in found.namelist()}
        modes = [one.external_attr >> 16 for one in found.infolist()]
    assert modes == [0o644, 0o755, 0o644]
    assert names == {
        "build/a/b.txt": b"one" * 1000, "build/c.bin": b"\0" * 700_000, "test/a/b.txt": b"two"
    }  # fmt: skip


def test_a_name_that_two_steps_have_given_says_whose_it_is(job: Job) -> None:
    shelve(job, "build", {"a": b"one"})
    shelve(job, "test", {"a": b"two"})
    client = caller(Role.VIEWER)
    urls = [one["url"] for one in client.get(f"/api/jobs/{job.pk}/artifacts").json()]
    assert [body(client.get(url)) for url in urls] == [b"one", b"two"]
    assert body(client.get(f"/api/jobs/{job.pk}/artifacts/a")) == b"two"


def test_only_files_of_the_last_attempt_that_ended_count(job: Job) -> None:
    url = f"/api/jobs/{job.pk}/artifacts"
    shelve(job, "build", {"first": b"1"}, status="failed", fence=1)
    shelve(job, "build", {"second": b"2"}, fence=2)
    shelve(job, "build", {"third": b"3"}, status="running", fence=3)
    shelve(job, "test", {"lost": b"3"}, status="lost", fence=1)
    found = caller(Role.VIEWER).get(url).json()
    assert [one["name"] for one in found] == ["second"]
    assert caller(Role.VIEWER).get(f"{url}/third").status_code == 404


def test_a_storage_that_is_away_is_told(job: Job, settings: Any, tmp_path: Path) -> None:
    shelve(job, "build", {"a": b"one"})
    Blob.objects.update(key="ab/gone")
    answer = caller(Role.VIEWER).get(f"/api/jobs/{job.pk}/artifacts/a")
    assert answer.status_code == 503, answer
    assert "lacks the file ab/gone" in answer.json()["error"]
    use(settings, "stores.Directory", location=tmp_path / "other")
    assert caller(Role.VIEWER).get(f"/api/jobs/{job.pk}/artifacts/a").status_code == 503


def test_a_stream_that_ends_early_is_no_whole_file(job: Job) -> None:
    (row,) = shelve(job, "build", {"a": b"one"})
    with pytest.raises(OSError, match="fewer bytes"):
        list(blobs._pieces(io.BytesIO(b"on"), 3))
    assert b"".join(blobs.pieces(row.blob)) == b"one"
