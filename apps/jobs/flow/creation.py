"""Creates a job: its row and its steps in one transaction, before its first advance."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from os import urandom
from typing import Any
from uuid import UUID

from django.conf import settings

from apps.fleet.tag_sets import tag_set_ids
from apps.jobs.database.sql import fetch
from apps.jobs.flow import abroad
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.jobs.transitions import rows
from apps.jobs.transitions.moves import Candidate
from engine.planner import Tally
from engine.spec.model import Task

CONSUMER = "consumer"  # the source type of jobs whose output is events
NOW_AND_IDS = """
SELECT clock_timestamp(), array(
    SELECT nextval(pg_get_serial_sequence('jobs_step', 'id')) FROM generate_series(1, %s)
)
"""
NO_DEPENDENCIES = Tally(0, 0, 0)


@dataclass(frozen=True, slots=True)
class Origin:
    """Who or what asked for the job."""

    type: str
    id: str = ""
    user_id: int | None = None
    parent_job_id: UUID | None = None
    parent_step_id: int | None = None
    parent_step_name: str = ""
    depth: int = 0
    rerun_of_id: UUID | None = None
    retry_of_id: UUID | None = None
    retry_attempt: int = 0
    scheduled_at: datetime | None = None
    noted_in: str = ""  # the workspace, of a start by hand, which the audit log hears of
    noted_by: str = ""  # who starts it, by e-mail


@dataclass(frozen=True, slots=True)
class Birth:
    """What to write. `clear` has the secret inputs, `shown` is what people may see."""

    plan: Plan
    task_name: str
    workspace_id: int
    revision_id: int
    origin: Origin
    shown: Mapping[str, Any]
    sealed: bytes | None = field(default=None, repr=False)
    priority: int | None = None
    is_held: bool = False
    wait_s: float | None = None

    def held(self) -> Birth:
        """The same, held by the task's concurrency limit."""
        return replace(self, is_held=True)


def time_out_s(plan: Plan) -> float | None:
    """How long a job may take from its start, without its waits for the start. A consumer has no
    end but those that its author gives it."""
    if plan.task.timeout:
        return plan.task.timeout.seconds
    return None if plan.emits else settings.STROEM.default_job_timeout_s


def time_limit_of(task: Task) -> str:
    """The same in words, as the author wrote it."""
    return task.timeout.text if task.timeout else f"{settings.STROEM.default_job_timeout_s or 0:g}s"


def uuid7() -> UUID:
    """A random id that sorts by time (RFC 9562), so that new rows sit together in the index."""
    value = (int(time.time() * 1000) << 80) | int.from_bytes(urandom(10), "big")
    value = value & ~(0xF << 76) | (7 << 76)
    return UUID(int=value & ~(3 << 62) | (2 << 62))


def write(birth: Birth) -> tuple[Job, list[Candidate]]:
    """Insert the job and its steps, all pending. Returns the job and the steps without
    dependencies."""
    plan = birth.plan
    now, found = _now_and_ids(len(plan.nodes))
    job = _job(birth, now)
    job.save(force_insert=True)
    ids = dict(zip(plan.nodes, found, strict=True))
    rows.insert_steps(job.id, _steps(job, plan, ids))
    if plan.strangers:
        rows.note_loans(job.id, abroad.told(plan))
    return job, [
        Candidate(ids[name], name, NO_DEPENDENCIES, node.step.continue_on_failure)
        for name, node in plan.nodes.items()
        if not node.step.depends_on
    ]


def write_all(births: Sequence[Birth]) -> tuple[list[Job], list[list[int]]]:
    """The same for many jobs, in three statements. Returns the jobs, and the ids of the steps
    without dependencies of each."""
    now, found = _now_and_ids(sum(len(birth.plan.nodes) for birth in births))
    free, steps, roots = iter(found), list[dict[str, Any]](), list[list[int]]()
    jobs = [_job(birth, now) for birth in births]
    for job, birth in zip(jobs, births, strict=True):
        ids = {name: next(free) for name in birth.plan.nodes}
        steps += ({**step, "job": str(job.id)} for step in _steps(job, birth.plan, ids))
        roots.append([ids[name] for name in birth.plan.roots])
    rows.insert_jobs(jobs)
    rows.insert_steps_of_many(steps)
    for job, birth in zip(jobs, births, strict=True):
        if birth.plan.strangers:
            rows.note_loans(job.id, abroad.told(birth.plan))
    return jobs, roots


def _job(birth: Birth, now: datetime) -> Job:
    plan, task = birth.plan, birth.plan.task
    timeout_s = None if birth.is_held else time_out_s(plan)  # `admit` gives a held one its time
    wait = timedelta(seconds=birth.wait_s or 0)
    return Job(
        id=uuid7(),
        workspace_id=birth.workspace_id,
        revision_id=birth.revision_id,
        blueprint_id=plan.id,
        task_name=birth.task_name,
        source_type=birth.origin.type,
        source_id=birth.origin.id,
        started_by_id=birth.origin.user_id,
        input=dict(birth.shown),
        input_sealed=birth.sealed,
        priority=task.priority if birth.priority is None else birth.priority,
        open_steps=len(plan.nodes),
        is_held=birth.is_held,
        has_actions=bool(task.workflow_actions),
        parent_job_id=birth.origin.parent_job_id,
        parent_step_id=birth.origin.parent_step_id,
        parent_step_name=birth.origin.parent_step_name,
        depth=birth.origin.depth,
        rerun_of_id=birth.origin.rerun_of_id,
        retry_of_id=birth.origin.retry_of_id,
        retry_attempt=birth.origin.retry_attempt,
        scheduled_at=birth.origin.scheduled_at,
        due_at=now + wait if wait else None,
        deadline_at=now + wait + timedelta(seconds=timeout_s) if timeout_s else None,
        created_at=now,
    )


def _now_and_ids(count: int) -> tuple[datetime, list[int]]:
    """The database's time, and `count` reserved step ids."""
    ((now, ids),) = fetch(NOW_AND_IDS, (count,))
    return now, ids


def _steps(job: Job, plan: Plan, ids: Mapping[str, int]) -> list[dict[str, Any]]:
    """The rows of a job's steps, as `rows.insert_steps` takes them."""
    sets = tag_set_ids(plan.tag_set_keys)
    default_s = None if plan.emits else settings.STROEM.default_step_timeout_s
    return [
        {
            "id": ids[name],
            "name": name,
            "position": node.position,
            "kind": node.kind,
            "runner": node.runner,
            "tag_set": None if node.runs_on_server else sets[node.tag_set_key],
            "dependents": [ids[dependent] for dependent in node.dependents],
            "deps": len(node.step.depends_on),
            "tolerates": node.step.continue_on_failure,
            "priority": job.priority + node.step.priority,
            "timeout_s": node.timeout_s or (default_s if not node.runs_on_server else None),
        }
        for name, node in plan.nodes.items()
    ]
