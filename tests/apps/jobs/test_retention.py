"""What time takes away: old jobs with everything of their tree, workers that are gone, expired
tokens."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from apps.accounts import throttles, tokens
from apps.accounts.models import RefreshToken, Throttle, User
from apps.conductor import partitions
from apps.conductor import services as conductor
from apps.fleet.models import Worker
from apps.jobs import ledger
from apps.jobs.flow.restarts import restart_failed
from apps.jobs.models import Job, LogChunk, Step
from apps.jobs.upkeep import retention, sweeps
from engine.orders import Line
from tests.apps.jobs.builders import Hand, failed, start, workspace
from tests.apps.jobs.shared import _django_db_helper, shared_db  # noqa: F401  (fixtures)

pytestmark = pytest.mark.django_db(transaction=True)

TEXT = """
actions:
  work: {type: script, script: "true"}
  ask: {type: approval, message: "Go on?"}
  call: {type: task, task: inner}
tasks:
  inner: {flow: {inside: {action: work}}}
  chain: {flow: {a: {action: work}, b: {action: work, depends_on: [a]}}}
  asks: {flow: {a: {action: ask}}}
  calls: {flow: {a: {action: call}, b: {action: work, depends_on: [a]}}, on_error: [{action: work}]}
  timed: {flow: {a: {action: call, timeout: 60}}}
"""


@pytest.fixture(scope="module")
def home(shared_db: None, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: F811
    return workspace(tmp_path_factory.mktemp("retention"), TEXT)


def days_ago(job: Job, days: float) -> None:
    Job.objects.filter(id=job.id).update(completed_at=F("created_at") - timedelta(days=days))


@pytest.fixture
def thirty_days(settings: Any) -> None:
    settings.STROEM = replace(
        settings.STROEM, retention=replace(settings.STROEM.retention, job_days=30, worker_hours=2)
    )


def rows_of(job_id: Any) -> dict[str, int]:
    found = {}
    with connection.cursor() as cursor:
        for table in (
            "jobs_job",
            "jobs_step",
            "jobs_attempt",
            "jobs_stepevent",
            "jobs_logchunk",
            "hooks_hookrun",
        ):
            column = "id" if table == "jobs_job" else "job_id"
            cursor.execute(f"SELECT count(*) FROM {table} WHERE {column} = %s", [job_id])
            found[table] = cursor.fetchone()[0]
    return found


def test_what_ended_long_ago_goes_with_everything_of_its_tree(home: Any, thirty_days: None) -> None:
    partitions.prepare()
    job, hand = start(home, "calls"), Hand()
    claim = hand.take("inside")
    ledger.append(claim, 1, [Line(1.0, "stdout", "hello")])
    hand.finish(claim, failed())
    hand.work()
    child = Job.objects.get(parent_job_id=job.id)
    assert all(
        rows_of(job.id)[table]
        for table in ("jobs_job", "jobs_step", "jobs_stepevent", "hooks_hookrun")
    )
    assert all(rows_of(child.id)[table] for table in ("jobs_job", "jobs_attempt", "jobs_logchunk"))
    assert retention.remove_old_jobs() == 0
    for one in (job, child):
        days_ago(one, 31)
    assert retention.remove_old_jobs() == 2
    assert set(rows_of(job.id).values()) == set(rows_of(child.id).values()) == {0}
    assert Job.objects.filter(source_type="hook").count() == 1  # its own run, not old yet


def test_a_tree_with_an_open_job_in_it_stays_whole(home: Any, thirty_days: None) -> None:
    job, hand = start(home, "timed"), Hand()
    hand.take("inside")
    Step.objects.filter(job_id=job.id, name="a").update(deadline_at=F("started_at"))
    sweeps.overdue_children()
    days_ago(job, 31)  # the parent has ended, its child still winds down
    assert retention.remove_old_jobs() == 0 and Job.objects.filter(id=job.id).exists()


def test_jobs_that_run_wait_or_were_reopened_are_never_removed(
    home: Any, thirty_days: None
) -> None:
    waiting, hand = start(home, "asks"), Hand()
    failed_job = start(home, "chain")
    hand.finish(hand.take("a"), failed())
    days_ago(failed_job, 31)
    restart_failed(failed_job.id)
    Job.objects.all().update(created_at=F("created_at") - timedelta(days=400))
    assert retention.remove_old_jobs() == 0
    assert Job.objects.filter(id__in=[waiting.id, failed_job.id]).count() == 2


def test_without_the_setting_nothing_goes(home: Any) -> None:
    job = start(home, "inner")
    Hand().work()
    days_ago(job, 4000)
    assert retention.remove_old_jobs() == 0 and Job.objects.filter(id=job.id).exists()


def test_the_lines_of_a_job_that_is_still_there_keep_their_day(
    home: Any, thirty_days: None
) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE jobs_logchunk_20200101 PARTITION OF jobs_logchunk"
            " FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')"
        )
        job = start(home, "asks")
        cursor.execute(
            "INSERT INTO jobs_logchunk (day, attempt_id, seq, job_id, lines, line_count)"
            " VALUES ('2020-01-01', 1, 1, %s, '', 1)",
            [job.id],
        )
        partitions.expire()
        assert LogChunk.objects.filter(job_id=job.id).exists()
        cursor.execute("DELETE FROM jobs_step; DELETE FROM jobs_job")
        partitions.expire()
        cursor.execute("SELECT to_regclass('jobs_logchunk_20200101')")
        assert cursor.fetchone()[0] is None


def test_workers_that_left_long_ago_go_and_those_that_live_stay(
    home: Any, thirty_days: None
) -> None:
    gone, recent, live = Hand(name="gone"), Hand(name="recent"), Hand(name="live")
    ledger.retire(gone.id)
    ledger.retire(recent.id)
    Worker.objects.filter(id=gone.id).update(stopped_at=F("stopped_at") - timedelta(hours=3))
    Worker.objects.filter(id=live.id).update(started_at=F("started_at") - timedelta(days=300))
    conductor.expire()
    assert not Worker.objects.filter(id=gone.id).exists()
    assert Worker.objects.filter(id__in=[recent.id, live.id]).count() == 2


def test_the_conductor_forgets_expired_tokens_and_old_counters(home: Any) -> None:
    user = User.objects.create_user(email="forget@example.org", password="a long password 17")
    tokens.begin_chain(user, timezone.now())
    RefreshToken.objects.update(expires_at=F("expires_at") - timedelta(days=4000))
    throttles.spend("x", limit=10, window_s=60)
    Throttle.objects.update(since=F("since") - timedelta(days=2))
    conductor.tidy()
    assert not RefreshToken.objects.exists() and not Throttle.objects.exists()
