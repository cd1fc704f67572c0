"""Clocks that are due at the same moment: few statements, and the same rows as one by one."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections
from django.test.utils import CaptureQueriesContext

from apps.jobs.flow.contexts import reveal
from apps.jobs.models import Job, Step, StepEvent
from apps.triggers import bursts, clocks, dials, transitions
from apps.triggers.models import Firing, Trigger
from apps.workspaces.models import Workspace
from tests.apps.jobs.builders import workspace
from tests.apps.triggers.builders import HOUR, NOON, jobs

pytestmark = pytest.mark.django_db(transaction=True)
FLOW = """
secrets: { key: s3cret-value }
tasks:
  main:
    timeout: 2h
    priority: 3
    input: { day: { type: string }, token: { type: string } }
    flow:
      one: { type: script, script: "true", tags: [north] }
      two: { type: script, script: "true" }
      both: { type: script, script: "true", depends_on: [one, two] }
  decides: { flow: { work: { type: script, script: "true", when: "{{ true }}" } } }
  limited: { max_concurrent_jobs: 1, flow: { work: { type: script, script: "true" } } }
"""
INPUT = '{ day: "{{ scheduled_at }}", token: "{{ secret.key }}" }'


def many(folder: Path, count: int, options: str = f"task: main, input: {INPUT}") -> Workspace:
    """A workspace with that many clocks, all set to noon."""
    lines = [f'  t{n}: {{ type: scheduler, cron: "0 * * * *", {options} }}' for n in range(count)]
    found = workspace(folder, FLOW + "triggers:\n" + "\n".join(lines) + "\n")
    for row in Trigger.objects.select_related("workspace").filter(workspace=found):
        clocks.wind(row, NOON)
    return found


def test_a_hundred_clocks_need_hardly_more_statements_than_one(tmp_path: Path) -> None:
    counts = []
    for count in (1, 100):
        many(tmp_path, count)
        clocks.fire_due(NOON + timedelta(minutes=count))
        with CaptureQueriesContext(connection) as seen:
            clocks.fire_due(NOON + HOUR + timedelta(seconds=1))
        counts.append(len(seen))
        Trigger.objects.all().delete()
    assert Job.objects.count() == 101
    assert counts[1] <= counts[0] + 2, counts


def rows_of(found: Workspace) -> dict[str, list[Any]]:
    """All that was written for a workspace, without ids and times."""
    own = {job.pk: job for job in Job.objects.filter(workspace=found)}
    left_out = {
        "_state", "id", "workspace_id", "revision_id", "source_id", "created_at", "started_at",
        "deadline_at", "input_sealed", "job_id", "ready_at", "dependents", "last_job_id",
        "last_fired_at", "trigger_id", "step_id", "at", "paused_at", "definition", "fair_rank",
    }  # fmt: skip

    def plain(row: Any) -> list[tuple[str, str]]:
        return sorted((k, str(v)) for k, v in vars(row).items() if k not in left_out)

    steps = Step.objects.filter(job_id__in=own)
    ranks = [(step.name, step.fair_rank, len(step.dependents)) for step in steps]
    sealed = [str(reveal(job.input_sealed)) for job in own.values() if job.input_sealed]
    spans = {job.deadline_at - job.created_at for job in own.values() if job.deadline_at}
    return {
        "jobs": sorted(plain(job) for job in own.values()),
        "steps": sorted(plain(step) for step in steps),
        "ranks": sorted(ranks),
        "events": sorted(plain(one) for one in StepEvent.objects.filter(job_id__in=own)),
        "firings": sorted(plain(one) for one in Firing.objects.filter(trigger__workspace=found)),
        "triggers": sorted(plain(one) for one in Trigger.objects.filter(workspace=found)),
        "shown": sorted((str(job.input), str(job.status)) for job in own.values()),
        "rest": [sorted(sealed), spans],
    }


def test_what_is_written_is_what_each_of_them_would_have_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for most in (bursts.MOST_STEPS, 0):
        monkeypatch.setattr(bursts, "MOST_STEPS", most)
        found.append(many(tmp_path, 3))
        for hours in (1, 2, 9):  # and what was missed in between
            clocks.fire_due(NOON + hours * HOUR)
        together = Job.objects.filter(workspace=found[-1])
        assert together.count() == 9 and "s3cret" not in str(list(together.values("input")))
    assert rows_of(found[0]) == rows_of(found[1])


@pytest.mark.sample(7)
@pytest.mark.parametrize(
    ("options", "started"),
    [
        ("task: decides", 6),
        ("task: limited", 6),
        ("task: main, concurrency: skip", 3),
        ("task: main, concurrency: queue", 3),
        ("task: main, concurrency: cancel_previous", 6),
        ("task: main, debounce: 1h", 0),
        ("task: main, idempotency_key: '{{ trigger.name }}'", 3),
    ],
)
def test_who_must_decide_something_decides_it(tmp_path: Path, options: str, started: int) -> None:
    many(tmp_path, 3, options)
    for hours in (1, 2):
        clocks.fire_due(NOON + hours * HOUR)
    assert len(jobs()) == started
    assert Firing.objects.count() == 6


def test_one_that_is_refused_or_broken_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = many(tmp_path, 5)
    refused, broken = Trigger.objects.filter(name__in=["t1", "t3"]).order_by("name")
    refused.definition["input"] = {"day": "{{ nothing.of_the_kind }}"}
    refused.save()
    real = dials.clock_of

    def clock_of(row: Trigger) -> Any:
        if row.pk == broken.pk:
            raise RuntimeError("no clock at all")
        return real(row)

    monkeypatch.setattr(dials, "clock_of", clock_of)
    clocks.fire_due(NOON + HOUR)
    names = [job.source_id for job in jobs()]
    assert sorted(names) == [f"{found.name}/t{number}" for number in (0, 2, 4)]
    refused.refresh_from_db()
    broken.refresh_from_db()
    assert "nothing" in refused.last_error and "RuntimeError" in broken.last_error


def test_when_the_statements_fail_each_clock_takes_its_own_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(tmp_path, 3)

    def fail(*_: Any) -> None:
        raise DatabaseError("a statement too large")

    monkeypatch.setattr(transitions, "write_turns", fail)
    clocks.fire_due(NOON + HOUR)
    assert len(jobs()) == 3 and Firing.objects.filter(status="started").count() == 3


def test_all_that_is_to_be_caught_up_is(tmp_path: Path) -> None:
    many(tmp_path, 3, "task: main, catch_up: all, catch_up_window: 5h")
    clocks.fire_due(NOON + timedelta(hours=9, minutes=30))
    assert len(jobs()) == 15 and Firing.objects.filter(status="missed").count() == 3
    assert len({(job.source_id, job.scheduled_at) for job in jobs()}) == 15


def test_many_schedulers_make_one_job_of_each_slot(tmp_path: Path) -> None:
    many(tmp_path, 60)

    def work() -> None:
        for hours in (1, 2, 3):
            clocks.fire_due(NOON + hours * HOUR)
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clocks.fire_due(NOON + 3 * HOUR)
    found = Counter((job.source_id, job.scheduled_at) for job in jobs())
    assert set(found.values()) == {1}
    fired = Firing.objects.filter(status="started")
    assert len(found) == fired.count() and not Trigger.objects.filter(next_at__lte=NOON + 3 * HOUR)
