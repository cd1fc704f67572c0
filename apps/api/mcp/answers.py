"""Answers, and waiting for one: a look at a time, with no connection held between two looks."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import DatabaseError
from django.db.models import F

from apps.accounts.models import User
from apps.api import scope
from apps.api.shapes.base import listed
from apps.api.shapes.jobs import JOB_COLUMNS, JobShape
from apps.jobs import veils
from apps.jobs.flow import blueprints
from apps.jobs.models import Job, Step
from engine.errors import StroemError
from engine.lifecycle import FINAL_JOB
from engine.rights import Right

MOST_S = 60
MOST_STEPS = 500
UNAVAILABLE = "The database did not answer; try again in a moment"
_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    is_error: bool = False


@dataclass(slots=True)
class Waiting:
    """Looks at a job until it has ended or the time is over."""

    user: User
    job_id: UUID
    until: float  # on the monotonic clock

    async def pause(self) -> None:
        await asyncio.sleep(max(0.0, min(_LOOK_S, self.until - time.monotonic())))

    def look(self) -> Answer | Waiting:
        """The job, once it has ended or the time is over. Rights count at each look."""
        try:
            job = scope.job(self.user, str(self.job_id))
            if job.status in FINAL_JOB or time.monotonic() >= self.until:
                return Answer(as_text(describe(self.user, job, with_output=True)))
        except StroemError as error:
            return Answer(str(error), is_error=True)
        except DatabaseError:
            return Answer(UNAVAILABLE, is_error=True)
        return self


def as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2, default=str)


def jobs(user: User, **wanted: Any) -> list[dict[str, Any]]:
    """The user's jobs in brief, newest first; `limit` of them."""
    limit = wanted.pop("limit")
    rows = scope.jobs(user).filter(**wanted)
    described = rows.annotate(
        mode=F("blueprint__body__task__mode"),
        max_attempts=F("blueprint__body__task__retry__max_attempts"),
    ).values(*JOB_COLUMNS)
    return listed(JobShape, list(described.order_by("-created_at", "-id")[:limit]))


def describe(user: User, job: Job, *, with_output: bool = False) -> dict[str, Any]:
    """A job and its steps in flow order, the first MOST_STEPS of them."""
    shown, rights = jobs(user, pk=job.pk, limit=1)[0], scope.rights(user, job)
    if with_output:
        seen = veils.job(job, rights)
        shown |= {"output": seen.output, "error_message": seen.error or None}
    plan = blueprints.load(job.blueprint_id)
    columns = ("name", "base", "kind", "status", "started_at", "completed_at", "error")
    rows = (
        Step.objects.filter(job_id=job.pk)
        .order_by("position", "base", F("loop_index").asc(nulls_first=True))
        .values_list(*columns)[: MOST_STEPS + 1]
    )
    steps = [
        {
            "step_name": name,
            "action_name": plan.nodes[base].step.action if base in plan.nodes else None,
            "action_type": kind,
            "status": status,
            "started_at": started_at,
            "completed_at": completed_at,
            "error_message": (error or None) if Right.LOGS in rights else None,
        }
        for name, base, kind, status, started_at, completed_at, error in rows
    ]
    shown["steps"] = steps[:MOST_STEPS]
    if hidden := veils.reasons(rights):
        shown["hidden"] = hidden
    if len(steps) > MOST_STEPS:
        shown["more_steps"] = f"only the first {MOST_STEPS} steps are listed"
    return shown
