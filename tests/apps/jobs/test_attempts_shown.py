"""Every attempt of a step is seen: in the API, the timeline and the terminal; and errors name their
step once."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from django.urls import reverse

from apps.accounts.models import Role
from apps.jobs import ledger
from apps.jobs.models import Job, Step
from console import job_report
from console.database import Database
from console.follower import Follower
from console.screen import Screen
from engine.orders import StepOutcome, Verdict
from tests.apps.api.callers import caller
from tests.apps.jobs.builders import Hand, failed, fresh, start, workspace
from tests.apps.workflow_actions.test_pages import client_of, person

pytestmark = pytest.mark.django_db(transaction=True)
TEXT = """
actions: {work: {type: script, script: "true", retry: {max_attempts: 3, delay: 1h}}}
tasks: {main: {flow: {a: {action: work}, b: {action: work}}}}
"""


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Step `a` failed twice and waits for its third attempt; `b` completed at once."""
    job = start(workspace(tmp_path, TEXT))
    hand = Hand(name="host-7")
    hand.finish(hand.take("a"), failed("Exit code: 7", 7))
    Step.objects.filter(job_id=job.id, name="a").update(status="ready")
    hand.finish(hand.take("a"), StepOutcome(Verdict.TIMED_OUT, error="Step timed out after 1s"))
    hand.finish(hand.take("b"))
    return job


def test_the_api_lists_what_became_of_each(job: Job) -> None:
    a, b = caller(Role.VIEWER).get(f"/api/jobs/{job.pk}").json()["steps"]
    assert [(one["attempt"], one["status"], one["exit_code"]) for one in a["retry_history"]] == [
        (0, "failed", 7),
        (1, "failed", None),
    ]
    assert a["retry_at"] is not None and a["retry_history"][0]["worker_id"]
    assert b["retry_history"] == []


def test_the_timeline_has_a_bar_for_each(job: Job) -> None:
    path = reverse("admin:jobs_job_timeline", args=[job.pk])
    rows = client_of(person(Role.VIEWER)).get(path).json()["rows"]
    tries = {row["name"]: [one["status"] for one in row["tries"]] for row in rows}
    assert tries == {"a": ["failed", "failed"], "b": []}
    assert all(one["started"] and one["ended"] for row in rows for one in row["tries"])


def test_the_terminal_lists_each_with_its_error(job: Job) -> None:
    view = Database().job(job.pk)
    lines = [line.split("  ")[-1].strip() for line in job_report.as_lines(view)]
    assert lines[1].startswith("a (next try at ")
    assert lines[2:6] == [
        "try 1 on host-7, exit code 7",
        "Exit code: 7",
        "try 2 on host-7",
        "Step timed out after 1s",
    ]
    found = json.loads(job_report.as_json(view))["steps"][0]["attempts"]
    assert [one["exit_code"] for one in found] == [7, None]


def test_an_attempt_that_was_lost_is_listed_too(tmp_path: Path) -> None:
    job = start(workspace(tmp_path, TEXT))
    hand = Hand(name="host-7")
    ledger.give_back(hand.take("a"))
    hand.work()
    (a, b) = Database().job(job.pk).steps
    assert [one.status for one in a.attempts] == ["lost", "completed"] and not b.attempts


def test_who_follows_a_job_reads_of_each_failure_before_the_next_try(
    job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = iter([False, True])
    Follower(Database(), job.pk, Screen(sys.stdout)).follow(lambda: next(looks))
    out = capsys.readouterr().out.splitlines()
    at = next(index for index, line in enumerate(out) if line.startswith("a: failed (next try in"))
    assert out[at + 1] == "  Step timed out after 1s"


@pytest.mark.parametrize("error", ["boom", "Step 'a': boom", "Step 'ab': boom"])
def test_the_error_of_a_job_names_each_step_once(tmp_path: Path, error: str) -> None:
    text = 'tasks: {main: {flow: {a: {type: script, script: "true"}}}}'
    job = start(workspace(tmp_path, text))
    Hand().work({"a": failed(error)})
    assert fresh(job).error == ("Step 'a': boom" if "ab" not in error else f"Step 'a': {error}")
