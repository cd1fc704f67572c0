"""Alive, late, gone: one definition for sweeps, pages, API and `doctor`."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest
from django.db.models import F

from apps.fleet import matching, presence, vitals
from apps.fleet.models import Worker

pytestmark = pytest.mark.django_db(transaction=True)


def worker(seen_s_ago: float = 0.0, **values: object) -> UUID:
    worker_id = presence.register(
        name="w", tags=["script"], slots=1, version="1", offers={"num_cpus": 4}, job_id=None
    )
    seen_at = F("heartbeat_at") - timedelta(seconds=seen_s_ago)
    Worker.objects.filter(id=worker_id).update(heartbeat_at=seen_at, **values)
    return worker_id


@pytest.mark.parametrize(
    ("seen_s_ago", "state", "is_alive", "takes_steps"),
    [
        (0, "live", True, True),
        (14, "live", True, True),
        (16, "silent", True, False),
        (29, "silent", True, False),
        (31, "silent", False, False),
    ],
)
def test_a_worker_is_late_after_15_seconds_and_not_alive_after_the_time_out(
    seen_s_ago: int, state: str, is_alive: bool, takes_steps: bool
) -> None:
    worker(seen_s_ago)
    (row,) = vitals.with_vitals(Worker.objects.all()).values("state", "is_alive")
    assert row == {"state": state, "is_alive": is_alive}
    assert vitals.alive().exists() is is_alive
    assert vitals.here().exists()
    assert bool(matching.seen_workers(within_s=5)) is takes_steps


def test_draining_and_stopped_workers_have_their_states() -> None:
    draining = worker(drains_at=vitals.ClockTimestamp())
    left = worker()
    presence.retire(left)
    states = dict(vitals.with_vitals(Worker.objects.all()).values_list("id", "state"))
    assert states == {draining: "draining", left: "stopped"}
    assert [row.id for row in vitals.alive()] == [draining]


def test_a_worker_that_left_counts_while_it_was_seen_recently() -> None:
    presence.retire(worker(seen_s_ago=20))
    assert matching.seen_workers(within_s=25) and not matching.seen_workers(within_s=5)
    assert matching.seen_workers(None)[0].offer.num_cpus == 4


def test_the_time_out_may_be_shorter_than_15_seconds(settings: object) -> None:
    from dataclasses import replace

    recovery = replace(settings.STROEM.recovery, heartbeat_timeout_s=10.0)  # type: ignore[attr-defined]
    settings.STROEM = replace(settings.STROEM, recovery=recovery)  # type: ignore[attr-defined]
    worker(seen_s_ago=11)
    (row,) = vitals.with_vitals(Worker.objects.all()).values("state", "is_alive")
    assert row == {"state": "silent", "is_alive": False}


def test_only_the_overdue_are_marked_as_gone() -> None:
    gone, kept = worker(seen_s_ago=31), worker(seen_s_ago=29)
    assert presence.mark_dead(30) == 1
    assert [row.id for row in vitals.here()] == [kept]
    stopped = Worker.objects.get(id=gone)
    assert stopped.stopped_at is not None and stopped.busy == 0
