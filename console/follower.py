"""Polls for news of a job and of the jobs that it set off."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any
from uuid import UUID

from console.port import BEGINNING, ActionNews, JobResult, Platform, Relative
from console.screen import Screen
from engine.lifecycle import FINAL_JOB, FINAL_STEP, StepStatus

FASTEST_S, SLOWEST_S = 0.03, 0.5
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
    _have_actions: set[UUID] = field(default_factory=set)
    _cursor: str = BEGINNING

    def follow(self, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Show everything until the job and all that it set off have ended, or `is_stopped` says
        so."""
        pause_s = FASTEST_S
        while not is_stopped():
            self._find_family()
            # Asked before the last look at steps and logs, so that nothing is missed. A job starts
            # its hooks as it ends, so look for new relatives once more.
            has_ended = self._all_ended() and not self._find_family()
            has_news = self._show_steps_and_logs()
            self.screen.flush()
            if has_ended:
                break
            pause_s = FASTEST_S if has_news else min(pause_s * 1.3, SLOWEST_S)
            time.sleep(pause_s)
        self.screen.close()

    def _find_family(self) -> bool:
        """Find the jobs that this one set off, and theirs in turn. True if any is new."""
        known = len(self._labels)
        if self.root not in self._labels:
            self._labels[self.root] = ""
        frontier = set(self._labels)
        while frontier:
            found = self.platform.relatives(frontier)
            fresh = [relative for relative in found if relative.id not in self._labels]
            for relative in fresh:
                self._labels[relative.id] = self._label(relative)
            frontier = {relative.id for relative in fresh}
        return len(self._labels) > known

    def _label(self, job: Relative) -> str:
        if job.retry_of is not None:
            return self._labels.get(job.retry_of, "")
        if job.parent is not None:
            return f"{self._labels.get(job.parent, '')}{job.parent_step}/"
        front = self._labels.get(UUID(job.source_id), "")
        return f"{front}{job.source_type}:{job.task.split(':', 1)[-1]}/"

    def _all_ended(self) -> bool:
        states = self.platform.states(self._labels)
        self._have_actions = {job.id for job in states if job.has_actions}
        if not all(job.status in FINAL_JOB for job in states):
            return False
        return not (self._have_actions and self.platform.has_open_actions(self._have_actions))

    def _show_steps_and_logs(self) -> bool:
        """Show what has started, then log lines, then what has ended: a step's lines arrive before
        its end."""
        steps = [
            (step, f"{self._labels.get(step.job_id, '')}{step.name}")
            for step in self.platform.step_news(self._labels)
        ]
        news = [(step, label) for step, label in steps if self._shown.get(step.id) != step.status]
        ended: Sequence[ActionNews] = ()
        if self._have_actions:
            ended = self.platform.action_news(self._have_actions, self._shown_actions)
        has_lines = False
        for begun in (True, False):
            for step, label in news:
                if (step.status in BEGUN) is begun:
                    self._shown[step.id] = step.status
                    note = _note(step.status, step.seconds)
                    shown = FAILED if step.status == AGAIN else step.status
                    self.screen.state(label, shown, note=note, error=step.error)
            if begun:
                has_lines = self._show_logs()
        self._show_actions(ended)
        self.screen.running(
            [(label, step.seconds) for step, label in steps if step.status == "running"]
        )
        return has_lines or bool(ended) or bool(news)

    def _show_actions(self, ended: Sequence[ActionNews]) -> None:
        """Called after their log lines were shown."""
        for action in ended:
            self._shown_actions.add(action.id)
            label = f"{self._labels.get(action.job_id, '')}workflow action {action.label}"
            self.screen.state(label, action.status, note=action.progress, error=action.reason)

    def _show_logs(self) -> bool:
        has_news, has_more = False, True
        while has_more:
            piece = self.platform.log(self._labels, self._cursor)
            self._cursor, has_more = piece.next, piece.has_more
            has_news = has_news or bool(piece.lines)
            for job_id, step, text in piece.lines:
                self.screen.line(f"{self._labels.get(job_id, '')}{step} | {text}")
        return has_news


def _note(status: str, seconds: float) -> str:
    if status == StepStatus.SUSPENDED:
        return "waits for a decision"
    if status == AGAIN:
        return f"next try in {max(seconds, 0.0):.0f} s"
    return f"{seconds:.1f} s" if status in FINAL_STEP and status != "skipped" else ""


def show_result(platform: Platform, job_id: UUID, task: str, screen: Screen) -> JobResult:
    """Show, as the last line, how the job or its last retry ended."""
    result = platform.result(job_id)
    screen.state(task, result.status, error=result.error)
    screen.close()
    return result


def answer(platform: Platform, result: JobResult) -> dict[str, Any]:
    """The JSON that `run --json` prints."""
    steps = platform.step_results(result.job_id)
    return {
        "job_id": str(result.job_id),
        "status": result.status,
        "output": result.output,
        "steps": {name: asdict(step) for name, step in steps.items()},
    }
