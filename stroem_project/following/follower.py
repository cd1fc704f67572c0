"""Reads, round by round, what is new about a job and about the jobs that it set off."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import Q

from apps.jobs.log.cursors import Cursor, read
from apps.jobs.models import Job, Step
from apps.workflow_actions.snapshots import Ended, ended_actions, is_anything_left
from engine.lifecycle import FINAL_JOB, FINAL_STEP
from stroem_project.following.screen import Screen

FASTEST_S, SLOWEST_S = 0.03, 0.5

_KIN = (
    "id",
    "parent_job_id",
    "parent_step_name",
    "retry_of_id",
    "source_type",
    "source_id",
    "task_name",
)
_NEWS = """
SELECT id, job_id, name, status, error,
       extract(epoch FROM coalesce(completed_at, clock_timestamp()) - coalesce(started_at,
           suspended_at, completed_at))
FROM jobs_step
WHERE job_id = ANY(%(jobs)s) AND owner_kind = 'step'
  AND (status IN ('running', 'suspended')
      OR completed_at > clock_timestamp() - interval '3 seconds')
ORDER BY coalesce(completed_at, started_at), id
"""


@dataclass(slots=True)
class Follower:
    """One job with its retries, child jobs and hooks."""

    root: UUID
    screen: Screen
    _labels: dict[UUID, str] = field(default_factory=dict)
    _shown: dict[int, str] = field(default_factory=dict)
    _shown_actions: set[int] = field(default_factory=set)
    _have_actions: set[UUID] = field(default_factory=set)
    _cursor: Cursor = field(default_factory=Cursor)

    def follow(self, is_stopped: Callable[[], bool] = lambda: False) -> None:
        """Shows everything until the job, and whatever it set off, has ended, or `is_stopped` says
        so."""
        pause_s = FASTEST_S
        while not is_stopped():
            self._find_family()
            # Asked before the last look at steps and logs, so that nothing is missed. A job that
            # has ended since the family was looked for has set off its hooks with its end.
            has_ended = self._all_ended() and not self._find_family()
            has_news = self._show_steps_and_logs()
            self.screen.flush()
            if has_ended:
                break
            pause_s = FASTEST_S if has_news else min(pause_s * 1.3, SLOWEST_S)
            time.sleep(pause_s)
        self.screen.close()

    def _find_family(self) -> bool:
        """The job, then what it set off, then what that set off. True when there was somebody
        new."""
        known = len(self._labels)
        if self.root not in self._labels:
            self._labels[self.root] = ""
        frontier = set(self._labels)
        while frontier:
            names = [str(job_id) for job_id in frontier]
            rows = Job.objects.filter(
                Q(parent_job_id__in=frontier)
                | Q(retry_of_id__in=frontier)
                | Q(source_type__in=("hook", "workflow_action"), source_id__in=names)
            ).values_list(*_KIN)
            fresh = [row for row in rows if row[0] not in self._labels]
            for job_id, parent, step, retry_of, source, source_id, task in fresh:
                if retry_of is not None:
                    self._labels[job_id] = self._labels.get(retry_of, "")
                elif parent is not None:
                    self._labels[job_id] = f"{self._labels.get(parent, '')}{step}/"
                else:
                    self._labels[job_id] = (
                        f"{self._labels.get(UUID(source_id), '')}{source}:{task.split(':', 1)[-1]}/"
                    )
            frontier = {row[0] for row in fresh}
        return len(self._labels) > known

    def _all_ended(self) -> bool:
        states = list(
            Job.objects.filter(id__in=self._labels).values_list("id", "status", "has_actions")
        )
        self._have_actions = {job_id for job_id, _, has_actions in states if has_actions}
        if not all(status in FINAL_JOB for _, status, _ in states):
            return False
        return not self._have_actions or not is_anything_left(self._have_actions)

    def _show_steps_and_logs(self) -> bool:
        """What runs now, then the lines, then what has ended: lines of a step arrive before its end
        does."""
        with connection.cursor() as cursor:
            cursor.execute(_NEWS, {"jobs": list(self._labels)})
            rows = [(row, f"{self._labels.get(row[1], '')}{row[2]}") for row in cursor.fetchall()]
        news = [(row, label) for row, label in rows if self._shown.get(row[0]) != row[3]]
        ended = ended_actions(self._have_actions, self._shown_actions) if self._have_actions else []
        for begun in (True, False):
            for (step_id, _, _, status, error, seconds), label in news:
                if (status not in FINAL_STEP) is begun:
                    self._shown[step_id] = status
                    self.screen.state(
                        label, status, note=_note(status, float(seconds or 0)), error=error
                    )
            if begun:
                has_lines = self._show_logs()
        has_moved = self._show_actions(ended)
        self.screen.running(
            [(label, float(row[5] or 0)) for row, label in rows if row[3] == "running"]
        )
        return has_lines or has_moved or bool(news)

    def _show_actions(self, rows: list[Ended]) -> bool:
        """Workflow actions that have ended: their own lines have come before."""
        for row in rows:
            self._shown_actions.add(row.action_id)
            label = f"{self._labels.get(row.job_id, '')}workflow action {row.label}"
            self.screen.state(label, row.status, note=row.progress, error=row.reason)
        return bool(rows)

    def _show_logs(self) -> bool:
        has_news, has_more = False, True
        while has_more:
            piece = read(list(self._labels), self._cursor)
            self._cursor, has_more = piece.next, piece.has_more
            for job_id, lines in piece.chunks:
                has_news = True
                for line in lines.splitlines():
                    record = json.loads(line)
                    self.screen.line(
                        f"{self._labels.get(job_id, '')}{record['step']} | {record['line']}"
                    )
        return has_news


def _note(status: str, seconds: float) -> str:
    if status == "suspended":
        return "waits for a decision"
    return f"{seconds:.1f} s" if status in FINAL_STEP and status != "skipped" else ""


def last_try(job_id: UUID) -> Job:
    """The job, or the last of those that repeated it."""
    job = Job.objects.get(id=job_id)
    while job.retry_job_id is not None:
        job = Job.objects.get(id=job.retry_job_id)
    return job


def answer(job: Job) -> dict[str, Any]:
    """What `run --json` prints."""
    rows = Step.objects.filter(job_id=job.id).order_by("position", "id")
    steps = rows.values_list("name", "status", "output", "error")
    return {
        "job_id": str(job.id),
        "status": job.status,
        "output": job.output,
        "steps": {
            name: {"status": status, "output": output, "error": error or None}
            for name, status, output, error in steps
        },
    }
