"""Clocks start jobs, once per slot."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from apps.jobs.models import Job
from apps.triggers import clocks
from apps.triggers.models import Firing
from tests.apps.jobs.builders import Hand, workspace
from tests.apps.triggers.builders import HOUR, NOON, TASKS, jobs, outcomes, set_to, trigger

pytestmark = pytest.mark.django_db(transaction=True)


def nightly(tmp_path: Path, more: str = "") -> str:
    """A workspace whose only trigger fires every hour, set to noon; its name."""
    options = f'{{ type: scheduler, cron: "0 * * * *", task: main{more} }}'
    found = workspace(tmp_path, TASKS + f"triggers: {{ nightly: {options} }}\n")
    set_to(NOON)
    return found.name


def test_a_slot_becomes_one_job_that_knows_its_time(tmp_path: Path):
    name = nightly(tmp_path)
    for late_s in (0, 1, 20):
        clocks.fire_due(NOON + HOUR + timedelta(seconds=late_s))
    (job,) = jobs()
    assert (job.source_type, job.source_id) == ("trigger", f"{name}/nightly")
    assert job.scheduled_at == NOON + HOUR
    claim = Hand().claim()
    assert claim is not None and claim.scheduled_at == NOON + HOUR
    row = trigger()
    assert (row.last_job_id, row.failures, row.last_slot) == (job.id, 0, NOON + HOUR)
    assert row.next_slot == NOON + 2 * HOUR
    assert outcomes() == [("started", "13:00")]


def test_templates_see_the_slot_the_one_before_and_secrets(tmp_path: Path):
    text = (
        TASKS
        + """
secrets: { key: s3cret-value }
triggers:
  nightly:
    type: scheduler
    cron: "0 * * * *"
    timezone: Europe/Oslo
    task: main
    input:
      day: "{{ scheduled_at }} after {{ previous_at | default(value='nothing') }}"
      count: "{{ 2 + 3 }}"
      token: "{{ secret.key }}"
"""
    )
    workspace(tmp_path, text)
    set_to(NOON)
    clocks.fire_due(NOON + HOUR)
    clocks.fire_due(NOON + 2 * HOUR)
    first, second = jobs()
    assert first.input["day"] == "2026-03-10T14:00:00+01:00 after nothing"
    assert first.input["count"] == 5
    assert second.input["day"] == "2026-03-10T15:00:00+01:00 after 2026-03-10T14:00:00+01:00"
    assert "s3cret-value" not in str([first.input, *Firing.objects.values_list("reason")])


def test_a_refused_job_is_noted_on_the_trigger_and_the_clock_goes_on(tmp_path: Path):
    nightly(tmp_path, ', input: { count: "{{ scheduled_at }}" }')
    clocks.fire_due(NOON + HOUR)
    clocks.fire_due(NOON + 2 * HOUR)
    assert not jobs()
    assert outcomes() == [("refused", "13:00"), ("refused", "14:00")]
    row = trigger()
    assert row.failures == 2 and "input 'count'" in row.last_error
    assert row.next_slot == NOON + 3 * HOUR


def test_an_outage_costs_one_late_run_and_says_what_was_missed(tmp_path: Path):
    nightly(tmp_path)
    clocks.fire_due(NOON + timedelta(hours=10, minutes=30))
    assert outcomes() == [("missed", "13:00"), ("started", "22:00")]
    missed = Firing.objects.get(status="missed")
    assert missed.count == 9 and missed.until == NOON + 9 * HOUR


def test_a_clock_that_jumps_back_fires_nothing_again(tmp_path: Path):
    nightly(tmp_path)
    clocks.fire_due(NOON + 2 * HOUR)
    clocks.fire_due(NOON + HOUR)
    clocks.fire_due(NOON + 2 * HOUR)
    assert len(jobs()) == 1


def test_skip_leaves_an_open_job_alone_and_says_so(tmp_path: Path):
    nightly(tmp_path, ", concurrency: skip")
    clocks.fire_due(NOON + HOUR)
    clocks.fire_due(NOON + 2 * HOUR)
    (job,) = jobs()
    assert outcomes() == [("started", "13:00"), ("skipped", "14:00")]
    assert str(job.id) in Firing.objects.get(status="skipped").reason
    Hand().work()
    clocks.fire_due(NOON + 3 * HOUR)
    assert len(jobs()) == 2


def test_cancel_previous_stops_the_open_job_first(tmp_path: Path):
    nightly(tmp_path, ", concurrency: cancel_previous")
    clocks.fire_due(NOON + HOUR)
    clocks.fire_due(NOON + 2 * HOUR)
    first, second = jobs()
    assert (first.status, second.status) == ("cancelled", "running")
    assert first.cancel_reason == "Trigger 'nightly' fired again"


def test_queue_starts_one_job_after_the_other(tmp_path: Path):
    from apps.triggers import waiting

    nightly(tmp_path, ", concurrency: queue")
    for hour in (1, 2, 3):
        clocks.fire_due(NOON + hour * HOUR)
    assert outcomes() == [("started", "13:00"), ("waiting", "14:00"), ("waiting", "15:00")]
    now, hand = NOON + 4 * HOUR - timedelta(minutes=1), Hand()
    assert waiting.go_on_due(now) == 0
    for done in (2, 3):
        hand.work()
        assert waiting.go_on_due(now) == 1
        assert len(jobs()) == done
    assert [job.scheduled_at for job in jobs()] == [NOON + hour * HOUR for hour in (1, 2, 3)]


def test_a_force_refresh_reads_the_workspace_before_the_job_starts(tmp_path: Path):
    from apps.triggers import waiting

    name = nightly(tmp_path, ", force_refresh: true")
    before = Job.objects.count()
    file = tmp_path / name / "workflow.yaml"
    file.write_text(file.read_text().replace('script: "true"', "script: echo new"))
    clocks.fire_due(NOON + HOUR)
    assert Job.objects.count() == before
    waiting.go_on_due(NOON + HOUR + timedelta(seconds=1))
    (job,) = jobs()
    job.workspace.refresh_from_db()
    assert job.revision_id == job.workspace.current_id
    assert "echo new" in str(job.revision.definition)


def test_a_job_that_the_workspace_cannot_run_any_more_is_refused_in_words(tmp_path: Path):
    nightly(tmp_path)
    row = trigger().workspace
    type(row).objects.filter(pk=row.pk).update(current=None)
    clocks.fire_due(NOON + HOUR)
    assert outcomes() == [("refused", "13:00")]
    assert "has no usable revision" in trigger().last_error
