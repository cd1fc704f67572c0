"""The example of triggers, on a clock that the test sets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from apps.jobs.models import Job
from apps.triggers import clocks, transitions, waiting
from apps.triggers.models import Firing
from apps.workspaces.services import import_folder
from tests.apps.jobs.builders import Hand, failed, output
from tests.apps.triggers.builders import HOUR, jobs, set_to, trigger
from tests.house import ROOT

pytestmark = pytest.mark.django_db(transaction=True)
EVENING = datetime(2026, 3, 27, 20, tzinfo=UTC)  # two days before Oslo's clocks go forward


def night(moment: datetime) -> Job | None:
    """What the clock of the example starts at this moment, if anything."""
    before = set(Job.objects.values_list("pk", flat=True))
    clocks.fire_due(moment)
    return Job.objects.exclude(pk__in=before).first()


def test_the_example_collects_every_night_and_then_publishes_or_tells() -> None:
    found = import_folder("triggers", ROOT / "examples" / "triggers")
    assert not found.has_failed, found.problems
    hand = Hand()
    row = set_to(EVENING, "every-night")
    assert row.next_slot == datetime(2026, 3, 28, 1, 30, tzinfo=UTC)  # 02:30 in Oslo
    assert row.next_at is not None and row.next_at - row.next_slot <= timedelta(minutes=5)
    assert night(EVENING + HOUR) is None

    first = night(row.next_at)
    assert first is not None and first.task_name == "collect"
    assert first.input == {"since": "the beginning", "until": "2026-03-28T02:30:00+01:00"}
    assert night(row.next_at) is None  # once
    hand.work({"count": output({"files": 3})})
    waiting.go_on_due()
    (published,) = jobs(task_name="publish")
    assert (published.input, published.source_id) == ({"files": 3}, "triggers/after-collecting")

    # 02:30 does not exist on Sunday: the clock runs right after the gap
    row = trigger("every-night")
    assert row.next_slot == datetime(2026, 3, 29, 1, tzinfo=UTC) and row.next_at is not None
    second = night(row.next_at)
    assert second is not None and second.input["since"] == "2026-03-28T02:30:00+01:00"
    hand.work({"count": failed("no disk")})
    waiting.go_on_due()
    assert jobs(task_name="tell") == []  # it waits until it is quiet
    now = transitions.database_now()
    waiting.go_on_due(now + timedelta(minutes=11))
    (told,) = jobs(task_name="tell")
    assert "no disk" in told.input["text"]
    assert len(jobs(task_name="publish")) == 1

    # while one collects, another one does not start; of an outage, one run is caught up
    row = trigger("every-night")
    assert row.next_at is not None
    third = night(row.next_at)
    assert third is not None
    row = trigger("every-night")
    assert row.next_at is not None and night(row.next_at) is None
    skipped = Firing.objects.filter(trigger=row).order_by("-slot").first()
    assert skipped is not None and skipped.status == "skipped"
    hand.work()
    late = trigger("every-night")
    assert late.next_slot is not None
    caught_up = night(late.next_slot + timedelta(days=2, hours=3))
    assert caught_up is not None
    missed = Firing.objects.get(trigger=row, status="missed")
    assert missed.count == 2
