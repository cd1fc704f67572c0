"""When lines in the storage go: with their job, by age, by size; never those of something open."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as live
from django.db import connection
from django.db.models import F

from apps.artifacts import blobs
from apps.artifacts.logs import leaving
from apps.artifacts.models import Blob, JobLog, LogFrame
from apps.conductor import partitions
from apps.jobs.flow.restarts import restart_failed
from apps.jobs.log.cursors import Cursor, read
from apps.jobs.models import Job, LogChunk
from apps.jobs.upkeep import retention
from apps.jobs.upkeep.removal import remove_workspace
from apps.workspaces.models import Workspace
from apps.workspaces.services import refresh
from stroem_project.config import LogLimits
from tests.apps.artifacts.logkeeping import (
    FLOW,
    age,
    lines_here,
    move,
    print_lines,
    run,
    take,
    texts_of,
)
from tests.apps.artifacts.test_blobs import names_in
from tests.apps.jobs.builders import Hand, failed, start, workspace

pytestmark = pytest.mark.django_db


@pytest.fixture
def home(tmp_path: Path, directory: Path) -> Any:
    return workspace(tmp_path, FLOW, "home")


def keep(settings: Any, **logs: Any) -> None:
    given = replace(live.STROEM.logs, **logs)
    settings.STROEM = replace(live.STROEM, logs=given)


def ended(home: Any, days: float, text: str = "x") -> Job:
    """A job that ended so long ago, whose one line has moved."""
    job = start(home, "fails")
    run(job, Hand(), build=[text])
    age(job, days)
    assert move() == 1
    return job


def texts(job: Job) -> list[str]:
    return [text for _, lines in read([job.pk], Cursor()).chunks for text in texts_of(lines)]


def test_without_limits_everything_stays(home: Any) -> None:
    ended(home, 4000)
    assert leaving.expire() == 0 and LogFrame.objects.exists()


def test_old_lines_go_and_the_log_says_so(home: Any, settings: Any) -> None:
    old, young = ended(home, 31, "old"), ended(home, 29, "young")
    keep(settings, retain=30 * 86400.0)
    assert leaving.expire() == 1
    assert texts(young) == ["young"]
    (note,) = texts(old)
    assert note == "[server] 1 line of this log was removed: `logs.retain` keeps them for 30 days"
    age(old)  # the note moves, and is not removed again and again
    assert move() == 1
    assert leaving.expire() == 0 and texts(old) == [note]


def test_a_workspace_may_have_limits_of_its_own(home: Any, settings: Any, tmp_path: Path) -> None:
    other = workspace(tmp_path, FLOW, "other")
    mine, theirs = ended(home, 10), ended(other, 10)
    keep(settings, retain=5 * 86400.0, workspaces={"home": LogLimits(retain=20 * 86400.0)})
    assert leaving.expire() == 1
    assert texts(mine) == ["x"] and len(texts(theirs)) == 1 and "removed" in texts(theirs)[0]


def asks(home: Any, **keeping: Any) -> None:
    """Its files ask for this in `settings.logs`."""
    file = Path(home.location) / "workflow.yaml"
    file.write_text(f"{FLOW}\nsettings: {{logs: {json.dumps(keeping)}}}\n")
    refresh(home)


def test_its_files_may_ask_for_less_and_never_for_more(home: Any, settings: Any) -> None:
    old, young = ended(home, 10), ended(home, 3)
    asks(home, retain="90d")
    keep(settings, retain=20 * 86400.0, archive=True)
    assert leaving.expire() == 0
    asks(home, retain="5d")
    assert leaving.expire() == 1
    (note,) = texts(old)
    own = "`settings.logs.retain` of the workspace's files keeps them for 5 days"
    assert note == f"[server] 1 line of this log was removed: {own}"
    keep(settings, retain=86400.0)
    assert leaving.expire() == 1 and "`logs.retain` keeps them for 1 days" in texts(young)[0]


def test_its_files_may_say_how_much_is_kept(home: Any) -> None:
    jobs = [ended(home, days) for days in (3, 2, 5, 4)]
    JobLog.objects.update(size_bytes=400_000)
    asks(home, workspace_mb=1)
    assert leaving.expire() == 2
    assert [texts(job) == ["x"] for job in jobs] == [True, True, False, False]
    assert "`settings.logs.workspace_mb` of the workspace's files" in texts(jobs[2])[0]


def test_what_its_files_ask_for_in_vain_is_told(home: Any, settings: Any) -> None:
    keep(settings, archive=False)
    asks(home, retain="5d")
    (told,) = Workspace.objects.get(pk=home.pk).problems
    assert "Setting 'logs' has no effect" in told["message"] and told["severity"] == "warning"
    keep(settings, archive=True, retain=86400.0, workspace_mb=2)
    asks(home, retain="5d", workspace_mb=1)
    (told,) = Workspace.objects.get(pk=home.pk).problems
    assert "'retain' has no effect: the server's settings allow less" in told["message"]


def test_beyond_its_size_a_workspace_loses_the_oldest_lines(home: Any, settings: Any) -> None:
    jobs = [ended(home, days) for days in (3, 2, 5, 4)]
    keep(settings, workspace_mb=1)
    assert leaving.expire() == 0
    JobLog.objects.update(size_bytes=400_000)
    assert leaving.expire() == 2
    assert [len(texts(job)) == 1 and texts(job) == ["x"] for job in jobs] == [
        True,
        True,
        False,
        False,
    ]
    assert leaving.expire() == 0


def test_nothing_goes_of_what_something_open_belongs_to(home: Any, settings: Any) -> None:
    keep(settings, retain=86400.0)
    hand = Hand()
    parent = start(home, "calls")  # its child has ended, itself not yet
    child = Job.objects.get(parent_job_id=parent.pk)
    run(child, hand, build=["a"], test=["b"])
    restarted = start(home, "fails")
    claim = take(restarted, hand, "build")
    print_lines(claim, ["c"])
    hand.finish(claim, failed())
    tried_again, retry = ended(home, 9), start(home, "fails")
    Job.objects.filter(pk=retry.pk).update(retry_of_id=tried_again.pk)
    with_hook, hook = ended(home, 9), start(home, "fails")
    Job.objects.filter(pk=hook.pk).update(source_type="hook", source_id=str(with_hook.pk))
    for job in (child, restarted):
        age(job, 9)
    Job.objects.filter(pk=parent.pk).update(status="running", completed_at=None)
    assert move() == 3
    restart_failed(restarted.pk)
    assert leaving.expire() == 0
    assert texts(child) == ["a", "b"] and texts(restarted) == ["c"]

    Job.objects.filter(pk__in=[parent.pk, retry.pk, hook.pk]).update(
        status="failed", completed_at=F("created_at")
    )
    assert leaving.expire() == 3  # the restarted one is open


def test_lines_go_with_their_job_and_bytes_after_the_rows(
    home: Any, settings: Any, directory: Path
) -> None:
    first, second = start(home, "fails"), start(home, "fails")
    for job in (first, second):
        run(job, Hand(), build=["x"])
        age(job, 100)
    assert move() == 2
    Blob.objects.update(used_at=F("used_at") - timedelta(days=2))
    assert retention.remove_tree(first.pk, 0) == 1
    assert blobs.clear_unused() == 0 and len(names_in(directory)) == 1  # the other's is in it
    assert texts(second) == ["x"]
    assert retention.remove_tree(second.pk, 0) == 1
    assert not LogFrame.objects.exists() and not JobLog.objects.exists()
    assert blobs.clear_unused() == 1 and names_in(directory) == []


def test_a_workspace_is_removed_with_its_lines(home: Any, directory: Path) -> None:
    ended(home, 1)
    remove_workspace("home")
    assert not LogFrame.objects.exists() and not JobLog.objects.exists()


def test_a_job_that_is_being_retried_is_not_removed(home: Any, settings: Any) -> None:
    settings.STROEM = replace(live.STROEM, retention=replace(live.STROEM.retention, job_days=30))
    job, retry = ended(home, 31), start(home, "fails")
    Job.objects.filter(pk=job.pk).update(retry_job_id=retry.pk)
    Job.objects.filter(pk=retry.pk).update(retry_of_id=job.pk)
    assert retention.remove_old_jobs() == 0
    Job.objects.filter(pk=retry.pk).update(status="failed", completed_at=F("created_at"))
    assert retention.remove_old_jobs() == 1


def test_partitions_whose_lines_have_moved_are_dropped(home: Any) -> None:
    with connection.cursor() as cursor:
        for day in ("2020-01-01", "2020-01-02"):
            cursor.execute(
                f"CREATE TABLE jobs_logchunk_{day.replace('-', '')} PARTITION OF jobs_logchunk"
                f" FOR VALUES FROM ('{day}') TO (date '{day}' + 1)"
            )
        job = start(home, "fails")
        cursor.execute(
            "INSERT INTO jobs_logchunk (day, attempt_id, seq, job_id, lines, line_count)"
            " VALUES ('2020-01-02', 1, 1, %s, '', 1)",
            [job.pk],
        )
        partitions.expire()
        cursor.execute("SELECT to_regclass('jobs_logchunk_20200101')")
        assert cursor.fetchone()[0] is None
        assert LogChunk.objects.filter(job_id=job.pk).exists() and lines_here(job) == 1
