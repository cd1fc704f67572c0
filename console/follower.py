"""Polls for news of a job and of the jobs that it set off."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from console.port import BEGINNING, ActionNews, JobResult, LogPiece, News, Platform
from console.screen import Screen
from engine.lifecycle import FINAL_STEP, StepStatus
from engine.news import Relative

FASTEST_S = 0.03
BEGUN = frozenset({StepStatus.RUNNING, StepStatus.SUSPENDED})
FAILED, AGAIN = StepStatus.FAILED, StepStatus.PENDING  # pending: failed, and to be tried again


@dataclass(slots=True)
class Follower:
    """One job with its retries, child jobs and hooks."""

    platform: Platform
    root: UUID
    screen: Screen
    _labels: dict[UUID, str] = field(default_factory=dict)
    _shown: dict[int, str] = field(default_factory=dict)
    _shown_actions: set[int] = field(default_factory=set)
    _cursor: str = BEGINNING
    _is_told: bool = False  # that something is hidden

    def follow(self, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Show everything until the job and all that it set off have ended, or `is_stopped` says
        so."""
        pause_s = FASTEST_S
        while not is_stopped():
            news = self._look()
            has_news = self._show(news)
            self.screen.flush()
            if news.has_ended:
                break
            pause_s = FASTEST_S if has_news else min(pause_s * 1.3, self.platform.slowest_look_s)
            time.sleep(pause_s)
        self.screen.close()

    def _look(self) -> News:
        news = self.platform.news(self.root, self._cursor, self._shown_actions)
        for relative in news.relatives:
            if relative.id not in self._labels:
                self._labels[relative.id] = self._label(relative)
        if news.hidden and not self._is_told:
            self._is_told = True
            self.screen.line(f"{news.hidden}.")
        return news

    def _label(self, job: Relative) -> str:
        if job.retry_of is not None:
            return self._labels.get(job.retry_of, "")
        if job.parent is not None:
            return f"{self._labels.get(job.parent, '')}{job.parent_step}/"
        front = self._labels.get(UUID(job.source_id), "")
        return f"{front}{job.source_type}:{job.task.split(':', 1)[-1]}/"

    def _show(self, news: News) -> bool:
        """Show what has started, then log lines, then what has ended: a step's lines arrive before
        its end. True if any of it is new."""
        steps = [(step, f"{self._labels.get(step.job_id, '')}{step.name}") for step in news.steps]
        fresh = [(step, label) for step, label in steps if self._shown.get(step.id) != step.status]
        has_lines = False
        for begun in (True, False):
            for step, label in fresh:
                if (step.status in BEGUN) is begun:
                    self._shown[step.id] = step.status
                    note = _note(step.status, step.seconds)
                    shown = FAILED if step.status == AGAIN else step.status
                    self.screen.state(label, shown, note=note, error=step.error)
            if begun:
                has_lines = self._show_log(news.log)
        self._show_actions(news.actions)
        self.screen.running(
            [(label, step.seconds) for step, label in steps if step.status == "running"]
        )
        return has_lines or bool(news.actions) or bool(fresh)

    def _show_actions(self, ended: Sequence[ActionNews]) -> None:
        """Called after their log lines were shown."""
        for action in ended:
            self._shown_actions.add(action.id)
            label = f"{self._labels.get(action.job_id, '')}workflow action {action.label}"
            self.screen.state(label, action.status, note=action.progress, error=action.reason)

    def _show_log(self, piece: LogPiece) -> bool:
        """Show this piece, and what else there was already to read."""
        has_lines = False
        while True:
            self._cursor = piece.next
            has_lines = has_lines or bool(piece.lines)
            for job_id, step, text in piece.lines:
                self.screen.line(f"{self._labels.get(job_id, '')}{step} | {text}")
            if not piece.has_more:
                return has_lines
            piece = self._look().log


def _note(status: str, seconds: float) -> str:
    if status == StepStatus.SUSPENDED:
        return "waits for a decision"
    if status == AGAIN:
        return f"next try in {max(seconds, 0.0):.0f} s"
    return f"{seconds:.1f} s" if status in FINAL_STEP and status != "skipped" else ""


def show_result(platform: Platform, job_id: UUID, task: str, screen: Screen) -> JobResult:
    """Show, as the last line, how the job or its last retry ended."""
    result = platform.result(job_id)
    screen.state(task, result.status, error=result.error or "\n".join(result.hidden))
    screen.close()
    return result


def answer(platform: Platform, result: JobResult) -> dict[str, Any]:
    """The JSON that `run --json` prints."""
    steps = platform.step_results(result.job_id)
    said = {
        "job_id": str(result.job_id),
        "status": result.status,
        "output": result.output,
        "steps": {name: asdict(step) for name, step in steps.items()},
    }
    return {**said, "hidden": list(result.hidden)} if result.hidden else said
