"""How long a task takes, and when its running jobs should end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rest_framework.test import APIClient

from apps.jobs.models import Job, Step
from engine.lifecycle import JobStatus
from tests.apps.api.callers import error
from tests.apps.jobs.builders import DONE, Hand, start

pytestmark = pytest.mark.django_db
STATS = "/api/workspaces/shop/tasks/main/stats"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def completed(shop: Any, *seconds: float) -> list[Job]:
    """Jobs that took so long, each ended an hour after the one before."""
    jobs = []
    for hour, took_s in enumerate(seconds):
        job, hand = start(shop, name="x"), Hand()
        while (claim := hand.claim()) is not None:
            hand.finish(claim, DONE)
        assert Job.objects.get(pk=job.pk).status == JobStatus.COMPLETED
        ended = NOON + timedelta(hours=hour)
        times = {"started_at": ended - timedelta(seconds=took_s), "completed_at": ended}
        Job.objects.filter(pk=job.pk).update(created_at=ended, **times)
        Step.objects.filter(job=job).update(**times)
        jobs.append(job)
    return jobs


def test_completed_jobs_and_steps_are_measured(shop: Any, operator: APIClient) -> None:
    first, second, third = completed(shop, 1, 2, 9)
    start(shop, name="still open")
    answer = operator.get(STATS).json()
    assert (answer["window"], set(answer)) == (50, {"window", "task", "steps", "running"})
    task = answer["task"]
    recent = task.pop("recent")
    assert task == {
        "sample_size": 3, "avg_ms": 4000, "p50_ms": 2000, "p95_ms": 8300, "min_ms": 1000, "max_ms": 9000,
    }  # fmt: skip
    assert [row["job_id"] for row in recent] == [str(third.pk), str(second.pk), str(first.pk)]
    assert recent[0]["duration_ms"] == 9000
    assert [step["step_name"] for step in answer["steps"]] == ["say", "also", "loud"]
    assert answer["steps"][0] == {"step_name": "say", **task}


def test_the_window_holds_the_newest(shop: Any, operator: APIClient) -> None:
    completed(shop, 1, 2, 9)
    answer = operator.get(f"{STATS}?limit=2").json()
    assert (answer["window"], answer["task"]["sample_size"], answer["task"]["min_ms"]) == (
        2,
        2,
        2000,
    )


def test_nothing_has_completed(shop: Any, operator: APIClient) -> None:
    answer = operator.get(STATS).json()
    assert answer == {
        "window": 50,
        "task": {
            "sample_size": 0, "avg_ms": None, "p50_ms": None, "p95_ms": None, "min_ms": None,
            "max_ms": None, "recent": [],
        },
        "steps": [],
        "running": [],
    }  # fmt: skip


def test_a_running_job_is_expected_to_take_the_usual_time(shop: Any, operator: APIClient) -> None:
    completed(shop, 600, 600, 36_000)
    now = datetime.now(UTC)
    expected = {}
    for age_s, usual_s in ((60, 600), (900, None), (90_000, "never")):
        job = start(shop, name="x")
        began = now - timedelta(seconds=age_s)
        Job.objects.filter(pk=job.pk).update(status="running", started_at=began)
        expected[str(job.pk)] = (began, usual_s)
    found = {row["job_id"]: row for row in operator.get(STATS).json()["running"]}
    assert set(found) == set(expected)
    for job_id, (began, usual_s) in expected.items():
        eta = found[job_id]["eta"]
        if usual_s == "never":  # it took longer than the slowest
            assert eta is None
        else:
            after_s = (datetime.fromisoformat(eta) - began).total_seconds()
            assert after_s == (usual_s or pytest.approx(32_460))


@pytest.mark.parametrize("limit", ["0", "501", "-1", "x", "1e2", "9999"])
def test_a_wrong_limit_is_refused(shop: Any, operator: APIClient, limit: str) -> None:
    answer = operator.get(f"{STATS}?limit={limit}")
    assert (answer.status_code, error(answer)) == (
        400,
        "limit must be a whole number between 1 and 500",
    )


def test_an_unknown_task_is_not_found(shop: Any, operator: APIClient) -> None:
    answer = operator.get("/api/workspaces/shop/tasks/nothing/stats")
    assert (answer.status_code, error(answer)) == (404, "Task not found")
