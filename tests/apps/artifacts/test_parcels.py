"""The address where pods fetch and send files: with the pass of a living attempt, as a whole."""

from __future__ import annotations

import io
import tarfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db.models.functions import Now
from django.test import AsyncClient

from apps.artifacts import blobs
from apps.artifacts import ledger as artifacts
from apps.artifacts.files import leaving, shelf
from apps.artifacts.models import Artifact, PodStep
from apps.jobs import ledger
from apps.jobs.models import Job
from apps.workspaces.ledger import pass_for
from tests.apps.artifacts.builders import shelve
from tests.apps.jobs.builders import Hand, start, workspace

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
tasks:
  main:
    flow:
      build: {type: script, runner: pod, script: "true"}
      use: {type: script, runner: pod, script: "true", depends_on: [build], artifacts: {from: [build]}}
"""


class Pod:
    def __init__(self, folder: Path) -> None:
        self.job: Job = start(workspace(folder, FLOW))
        self.hand = Hand("kubernetes")
        self.begin("build")

    def begin(self, step: str) -> None:
        self.claim: ledger.Claim = self.hand.take(step)
        assert self.hand.start(self.claim)

    def ask(
        self, method: str, body: bytes = b"", files: int | str = 0, path: str = "", **over: Any
    ) -> Any:
        claim = self.claim
        token = pass_for(claim.attempt_id, claim.fence, claim.revision_digest)
        headers = {
            "authorization": f"Bearer {over.get('token', token)}",
            "x-stroem-files": str(files),
        }

        async def call() -> Any:
            answer = await getattr(AsyncClient(), method)(
                f"/worker/artifacts{path}",
                data=body,
                content_type="application/x-tar",
                headers=headers,
            )
            parts = [part async for part in answer] if answer.streaming else [answer.content]
            answer.body = b"".join(parts)
            return answer

        return async_to_sync(call)()

    def get(self) -> Any:
        claim = self.claim
        token = pass_for(claim.attempt_id, claim.fence, claim.revision_digest)

        async def call() -> Any:
            answer = await AsyncClient().get(
                "/worker/artifacts", headers={"authorization": f"Bearer {token}"}
            )
            return b"".join([part async for part in answer])

        return async_to_sync(call)()


@pytest.fixture
def pod(directory: Path, tmp_path: Path) -> Pod:
    blobs.establish()
    return Pod(tmp_path)


@pytest.fixture
def directory(settings: Any, tmp_path: Path, transactional_db: None) -> Path:
    from tests.apps.artifacts.conftest import use

    use(settings, "stores.Directory", location=tmp_path / "storage")
    return tmp_path / "storage"


def tar(**files: bytes | str | None) -> bytes:
    """Text: a link there."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.mode = 0o755 if name.endswith(".sh") else 0o644
            if isinstance(content, bytes):
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
            else:
                entry.type = tarfile.SYMTYPE if content else tarfile.DIRTYPE
                entry.linkname = content or ""
                archive.addfile(entry)
    return made.getvalue()


def left(job: Job) -> dict[str, bytes]:
    found = {}
    for row in shelf.of_job(job.pk):
        with blobs.open_blob(row.blob) as stream:
            found[row.name] = stream.read()
    return found


def test_what_a_pod_sends_counts_once_its_step_has_ended(pod: Pod) -> None:
    answer = pod.ask(
        "put", tar(**{"d": None, "d/a.txt": b"one", "b": b"\0two", "l": "/etc/passwd"}), 2
    )
    assert answer.status_code == 200, answer.body
    assert answer.body.decode().splitlines() == [
        "Warning: the artifact 'l' is no regular file, and is left out",
        "Stored 2 artifacts (7 bytes)",
    ]
    assert left(pod.job) == {}
    pod.hand.finish(pod.claim)
    assert left(pod.job) == {"d/a.txt": b"one", "b": b"\0two"}


def test_a_later_pod_takes_them_as_one_archive(pod: Pod) -> None:
    pod.ask("put", tar(**{"a.txt": b"one" * 1000}), 1)
    pod.hand.finish(pod.claim)
    pod.begin("use")
    with tarfile.open(fileobj=io.BytesIO(pod.get())) as found:
        assert found.getnames() == ["build", "build/a.txt"]
        content = found.extractfile("build/a.txt")
        assert content is not None and content.read() == b"one" * 1000


def test_programs_stay_programs(pod: Pod) -> None:
    pod.ask("put", tar(**{"a.txt": b"one", "tool.sh": b"#!/bin/sh"}), 2)
    pod.hand.finish(pod.claim)
    pod.begin("use")
    with tarfile.open(fileobj=io.BytesIO(pod.get())) as found:
        modes = {entry.name: entry.mode for entry in found if entry.isreg()}
    assert modes == {"build/a.txt": 0o644, "build/tool.sh": 0o755}
    assert [(one.name, one.is_program) for one in shelf.taken(pod.job.pk, ["build"])] == [
        ("a.txt", False),
        ("tool.sh", True),
    ]


@pytest.mark.parametrize(
    ("files", "number", "told"),
    [
        ({"../up": b"x"}, 1, "must not contain empty parts, '.' or '..'"),
        ({"/abs": b"x"}, 1, "must not contain"),
        ({"a\nb": b"x"}, 1, "must not contain control characters"),
        ({"a": b"x"}, 2, "only 2 of 3 files arrived"),
    ],
)
def test_what_may_not_be_kept_is_refused_as_a_whole(
    pod: Pod, files: dict[str, bytes], number: int, told: str
) -> None:
    answer = pod.ask("put", tar(good=b"y", **files), number + 1)
    assert answer.status_code == 422 and told in answer.body.decode()
    assert not Artifact.objects.exists()


def test_half_an_archive_is_refused(pod: Pod) -> None:
    whole = tar(a=b"x" * 10_000, b=b"y" * 10_000)
    assert pod.ask("put", whole[:15_000], 2).status_code == 422
    assert pod.ask("put", b"no tar", 1).status_code == 422
    assert not Artifact.objects.exists()


def test_only_the_pass_of_a_living_attempt_opens_it(pod: Pod) -> None:
    assert pod.ask("put", tar(a=b"x"), 1, token="strp_1.1.x").status_code == 401
    assert pod.ask("post", b"").status_code == 405
    assert pod.ask("put", tar(a=b"x"), "many").status_code == 400
    pod.hand.finish(pod.claim)
    assert pod.ask("put", tar(a=b"x"), 1).status_code == 410
    assert pod.ask("get").status_code == 410
    assert left(pod.job) == {}


def test_a_pod_learns_of_the_end_of_its_image_from_the_worker(pod: Pod) -> None:
    def asked(**over: Any) -> tuple[int, bytes]:
        answer = pod.ask("get", path="/end", **over)
        return answer.status_code, answer.body

    assert asked() == (204, b"")
    artifacts.tell_end(pod.claim, 3)
    artifacts.tell_end(pod.claim, 3)  # the answer to the first was lost
    assert asked() == (200, b"3")
    assert asked(token="strp_1.1.x")[0] == 401
    assert pod.ask("put", b"x", path="/end").status_code == 405
    pod.hand.finish(pod.claim)
    assert asked()[0] == 410
    leaving.expire()
    assert PodStep.objects.count() == 1
    PodStep.objects.update(told_at=Now() - timedelta(days=2))
    leaving.expire()
    assert not PodStep.objects.exists()


def test_a_second_sending_replaces_the_first(pod: Pod) -> None:
    pod.ask("put", tar(a=b"x", b=b"y"), 2)
    pod.ask("put", tar(a=b"z"), 1)
    pod.hand.finish(pod.claim)
    assert left(pod.job) == {"a": b"z"}


def test_files_of_another_job_are_not_given_out(pod: Pod, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = start(workspace(tmp_path / "other", FLOW))
    shelve(other, "build", {"secret": b"x"})
    pod.hand.finish(pod.claim)
    pod.begin("use")
    with tarfile.open(fileobj=io.BytesIO(pod.get())) as found:
        assert found.getnames() == ["build"]
