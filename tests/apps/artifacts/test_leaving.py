"""Which files count, how many there may be, and when they go."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as live
from django.db.models import F
from django.utils import timezone

from apps.artifacts import blobs, ledger
from apps.artifacts.errors import TooLarge
from apps.artifacts.files import leaving, shelf
from apps.artifacts.models import Artifact, Blob
from apps.artifacts.values import Left
from apps.jobs.models import Job
from apps.jobs.upkeep import retention
from apps.jobs.upkeep.removal import remove_workspace
from tests.apps.artifacts.builders import shelve
from tests.apps.artifacts.test_blobs import names_in
from tests.apps.jobs.builders import Hand, failed, start, workspace

pytestmark = pytest.mark.django_db
FLOW = """
tasks:
  main:
    flow:
      build: {type: script, script: "true", retry: {max_attempts: 2, delay: 1s}}
      test: {type: script, script: "true"}
"""


class Leaver:
    """A worker by hand with a step under way."""

    def __init__(self, folder: Path, name: str = "own", text: str = FLOW) -> None:
        blobs.establish()
        self.job: Job = start(workspace(folder, text, name))
        self.hand = Hand()
        self.claim = self.hand.take("build")
        assert self.hand.start(self.claim)

    def leave(self, retain_s: float | None = None, **files: bytes) -> bool:
        rows = [self.row(name, data) for name, data in files.items()]
        return ledger.leave(self.claim, rows, retain_s)

    def row(self, name: str, data: bytes) -> Left:
        stored = ledger.begin(io.BytesIO(data)).go_on()
        return Left(name, "text/plain", stored.id, stored.size)

    @property
    def names(self) -> list[str]:
        return [one.name for one in shelf.of_job(self.job.pk)]


@pytest.fixture
def leaver(tmp_path: Path, directory: Path) -> Leaver:
    return Leaver(tmp_path)


def use(settings: Any, **artifacts: Any) -> None:
    given = replace(live.STROEM.artifacts, **artifacts)
    settings.STROEM = replace(live.STROEM, artifacts=given)


def test_files_count_from_the_accepted_end_on(leaver: Leaver) -> None:
    assert leaver.leave(a=b"1")
    assert leaver.names == []
    leaver.hand.finish(leaver.claim)
    assert leaver.names == ["a"]


def test_an_attempt_that_is_lost_leaves_nothing_and_a_zombie_adds_nothing(leaver: Leaver) -> None:
    assert leaver.leave(a=b"1")
    leaver.hand.finish(leaver.claim, failed())  # not what its worker meant
    assert not leaver.leave(b=b"2")  # its attempt has ended
    assert leaver.names == []
    assert set(Artifact.objects.values_list("name", flat=True)) == {"a"}


def test_files_of_a_failure_count_if_it_has_failed(leaver: Leaver) -> None:
    row = leaver.row("log", b"1")
    assert ledger.leave(leaver.claim, [row], None, has_failed=True)
    assert leaver.names == []
    leaver.hand.finish(leaver.claim, failed())
    assert leaver.names == ["log"]


def test_a_second_call_replaces_the_first(leaver: Leaver) -> None:
    assert leaver.leave(a=b"1", b=b"2") and leaver.leave(a=b"3")
    leaver.hand.finish(leaver.claim)
    assert [(one.name, one.size_bytes) for one in shelf.of_job(leaver.job.pk)] == [("a", 1)]


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        ({"files": 2}, "a job may leave 2 files (`artifacts.files`)"),
        ({"job_mb": 1}, "a job may leave 1 MiB (`artifacts.job_mb`), of which 600 KiB are used"),
        ({"workspace_mb": 1}, "the workspace may keep 1 MiB of artifacts"),
    ],
)
def test_limits_count_what_other_steps_have_left(
    leaver: Leaver, settings: Any, limit: dict[str, int], told: str
) -> None:
    shelve(leaver.job, "test", {"x": b"x" * 614_400, "y": b""})
    use(settings, **limit)
    with pytest.raises(TooLarge) as caught:
        leaver.leave(a=b"y" * 614_400)
    assert told in str(caught.value)
    with pytest.raises(TooLarge):
        ledger.refuse_beyond(leaver.claim, [614_400])
    assert leaver.names == ["x", "y"]


def test_a_file_beyond_its_limit_is_not_stored(leaver: Leaver, settings: Any) -> None:
    use(settings, file_mb=1)
    with pytest.raises(TooLarge):
        leaver.row("a", b"x" * 1_048_577)
    assert not Blob.objects.exists()


def age(hours: float) -> None:
    """Everything was stored this long ago."""
    Artifact.objects.update(
        created_at=F("created_at") - timedelta(hours=hours),
        expires_at=F("expires_at") - timedelta(hours=hours),
    )
    Blob.objects.update(used_at=F("used_at") - timedelta(hours=hours))


def end(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(status="completed", completed_at=timezone.now())


def test_files_go_when_their_time_is_over_and_the_job_has_ended(
    leaver: Leaver, directory: Path
) -> None:
    leaver.leave(3600.0, a=b"1")
    leaver.hand.finish(leaver.claim)
    age(25)
    assert leaving.expire() == 0 and leaver.names == ["a"]  # a later step may take it
    end(leaver.job)
    assert leaving.expire() == 1 and leaver.names == []
    assert blobs.clear_unused() == 1 and names_in(directory) == []


def test_without_a_time_the_settings_say_how_long(leaver: Leaver, settings: Any) -> None:
    use(settings, retain=7200.0)
    leaver.leave(a=b"1")
    leaver.leave(60.0, a=b"1")
    row = Artifact.objects.get()
    assert timedelta(seconds=50) < row.expires_at - row.created_at <= timedelta(seconds=61)
    leaver.leave(a=b"1")
    row = Artifact.objects.get()
    assert timedelta(hours=1.9) < row.expires_at - row.created_at < timedelta(hours=2.1)


def test_the_files_of_a_workspace_may_ask_for_less(
    tmp_path: Path, directory: Path, settings: Any
) -> None:
    text = f"{FLOW}settings: {{artifacts: {{retain: 1h, workspace_mb: 1}}}}\n"
    leaver = Leaver(tmp_path, text=text)
    for given, hours in ((None, 1), (7200.0, 1), (1800.0, 0.5)):
        use(settings, retain=given)
        leaver.leave(a=b"1")
        row = Artifact.objects.get()
        assert abs(row.expires_at - row.created_at - timedelta(hours=hours)) < timedelta(minutes=1)
    use(settings, workspace_mb=100)
    with pytest.raises(TooLarge, match=r"1 MiB of artifacts \(`settings\.artifacts\.workspace_mb`"):
        leaver.leave(a=b"y" * 1_048_577)


def test_rows_of_attempts_that_do_not_count_are_swept(leaver: Leaver) -> None:
    shelve(leaver.job, "build", {"old": b"1"}, status="failed", fence=101)
    shelve(leaver.job, "build", {"new": b"2"}, fence=102)
    shelve(leaver.job, "test", {"lost": b"3"}, status="lost", fence=101)
    end(leaver.job)
    assert leaving.expire() == 0  # not before a day is over
    age(25)
    assert leaving.expire() == 2
    assert leaver.names == ["new"]


def test_the_removal_of_a_job_takes_rows_then_bytes(
    leaver: Leaver, settings: Any, directory: Path
) -> None:
    shelve(leaver.job, "test", {"x": b"1", "y": b"2"})
    end(leaver.job)
    Job.objects.filter(pk=leaver.job.pk).update(completed_at=timezone.now() - timedelta(days=9))
    kept = replace(live.STROEM.retention, job_days=7)
    settings.STROEM = replace(live.STROEM, retention=kept)
    assert retention.remove_old_jobs() == 1
    assert not Artifact.objects.exists() and len(names_in(directory)) == 2
    assert blobs.clear_unused() == 0
    age(25)
    assert blobs.clear_unused() == 2 and names_in(directory) == []


def test_the_removal_of_a_workspace_takes_them_too(leaver: Leaver) -> None:
    shelve(leaver.job, "test", {"x": b"1"})
    end(leaver.job)
    remove_workspace("own")
    assert not Artifact.objects.exists()


def test_bytes_that_another_row_names_stay(leaver: Leaver, tmp_path: Path, directory: Path) -> None:
    other = start(workspace(tmp_path, FLOW, "other"))
    shelve(leaver.job, "test", {"x": b"same"})
    shelve(other, "test", {"y": b"same"})
    end(leaver.job)
    remove_workspace("own")
    age(25)
    assert blobs.clear_unused() == 0 and len(names_in(directory)) == 1
