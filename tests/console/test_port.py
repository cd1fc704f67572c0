"""What commands show comes through the port alone: here nothing is behind it but a script."""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from console import job_report
from console.follower import Follower, answer, show_result
from console.port import (
    JobLine,
    JobResult,
    JobView,
    LogLine,
    LogPiece,
    News,
    Relative,
    StepLine,
    StepNews,
    StepResult,
)
from console.screen import Screen

JOB, CHILD = UUID(int=1), UUID(int=2)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Scripted:
    """One job whose child runs in the first look and has ended in the second."""

    def __init__(self) -> None:
        self.looks = 0

    slowest_look_s = 0.05

    def news(self, root: UUID, after: str, known_actions: Collection[int]) -> News:
        self.looks += 1
        first = self.looks == 1
        child = Relative(CHILD, None, JOB, "call", "task", "", "child")
        step = StepNews(
            7, CHILD, "work", "running" if first else "failed", "" if first else "exit code 2", 1.25
        )
        lines = [LogLine(CHILD, "work", "hello")] if after == "0" else []
        log = LogPiece(lines, "1", has_more=after == "0")
        return News([child], [step], [], log, has_ended=not first)

    def result(self, job_id: UUID) -> JobResult:
        return JobResult(job_id, "completed", "", {"n": 1})

    def step_results(self, job_id: UUID) -> dict[str, StepResult]:
        return {"call": StepResult("completed", None, None)}


class Veiled(Scripted):
    """The same, where some lines and the output are not for this reader."""

    def news(self, root: UUID, after: str, known_actions: Collection[int]) -> News:
        return replace(super().news(root, after, known_actions), hidden="Some lines are left out")

    def result(self, job_id: UUID) -> JobResult:
        return JobResult(job_id, "failed", "", None, hidden=("You may not see its logs",))


def test_what_is_hidden_is_said_once_and_not_taken_for_nothing() -> None:
    platform, out = Veiled(), io.StringIO()
    screen = Screen(out)
    Follower(platform, JOB, screen).follow()  # type: ignore[arg-type]
    result = show_result(platform, JOB, "main", screen)  # type: ignore[arg-type]
    lines = out.getvalue().splitlines()
    assert lines.count("Some lines are left out.") == 1
    assert lines[-2:] == ["main: failed", "  You may not see its logs"]
    assert answer(platform, result)["hidden"] == ["You may not see its logs"]  # type: ignore[arg-type]


def test_a_job_is_followed_through_the_port() -> None:
    platform, out = Scripted(), io.StringIO()
    screen = Screen(out)
    Follower(platform, JOB, screen).follow()  # type: ignore[arg-type]
    result = show_result(platform, JOB, "main", screen)  # type: ignore[arg-type]
    assert out.getvalue().splitlines() == [
        "call/work: running",
        "call/work | hello",
        "call/work: failed (1.2 s)",
        "  exit code 2",
        "main: completed",
    ]
    assert answer(platform, result) == {  # type: ignore[arg-type]
        "job_id": str(JOB),
        "status": "completed",
        "output": {"n": 1},
        "steps": {"call": {"status": "completed", "output": None, "error": None}},
    }


def test_lists_and_reports_are_made_of_values() -> None:
    began = NOON - timedelta(seconds=90)
    line = JobLine(JOB, "running", "shop", "main", began, began, None, NOON)
    assert job_report.list_line(line).endswith("2026-03-01 11:58:30      90.0 s  shop/main")
    assert "asked_at" not in job_report.list_json(line)
    step = StepLine("one", "failed", began, NOON, "broken\n\x1b[2Jhere")
    view = JobView(JOB, "shop", "main", "failed", None, began, began, NOON, [step] * 1001, [])
    lines = list(job_report.as_lines(view))
    assert lines[1:4] == [
        "step    failed         90.0 s  one",
        "          broken",
        "          here",
    ]
    assert lines[-1] == "        and 1 more steps"
