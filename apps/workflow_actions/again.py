"""Requests nodes again for steps that came back from a lost worker, or that may run twice anyway,
when none are in sight any more.

The action that requested the lost nodes gets one more unit, which requests the nodes alone. A step
that nobody took since it became ready has nodes requested again `lost_retries` times at most.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings

from apps.fleet.matching import NOBODY, misfit, seen_workers
from apps.fleet.models import Allocation
from apps.jobs.database.sql import fetch, retried
from apps.jobs.flow import blueprints
from apps.jobs.models import Job, Unit
from apps.jobs.transitions import moves as step_pen
from apps.workflow_actions import outlook, runs
from apps.workflow_actions.models import JobAction
from engine.lifecycle import FINAL_STEP, ActionStatus, AllocationStatus, JobStatus
from engine.slurm_states import is_taken_away
from engine.spec.tags import ANY_SCHEDULER, SLURM_PREFIX

BATCH = 500
READY = """
SELECT s.job_id, t.key, s.base, bool_or(s.fence > 0) AS has_come_back, min(s.losses) AS losses,
    min(s.attempts) AS attempts, max(s.ready_at) AS ready_at
FROM jobs_step s JOIN fleet_tagset t ON t.id = s.tag_set_id
WHERE s.status = 'ready' AND s.owner_kind = 'step' AND t.key LIKE %(tags)s
    AND (%(job)s::uuid IS NULL OR s.job_id = %(job)s)
    AND (%(key)s::text IS NULL OR t.key = %(key)s) AND (%(base)s::text IS NULL OR s.base = %(base)s)
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3 LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class _Ready:
    """The ready steps of one name in the flow that ask for the same."""

    job_id: UUID
    key: str
    base: str
    has_come_back: bool
    losses: int
    attempts: int
    ready_at: datetime


def _ready(
    job_id: UUID | None = None, key: str | None = None, base: str | None = None
) -> list[_Ready]:
    params = {"tags": f"%{SLURM_PREFIX}%", "job": job_id, "key": key, "base": base, "limit": BATCH}
    return [_Ready(*row) for row in fetch(READY, params)]


def will_be_asked(key: str, job_id: UUID, base: str) -> bool:
    """Whether nodes for this ready step are being requested again, or will be by the next sweep."""
    return any(_action_for(one) is not None for one in _ready(job_id, key, base))


def ask() -> int:
    """Request nodes again for ready steps that have none in sight; returns for how many actions."""
    asked: set[int] = set()
    for one in _ready():
        if _has_prospect(one):
            continue
        action = _action_for(one)
        if action is not None and action.id not in asked and _request(action.id, one.job_id):
            asked.add(action.id)
    return len(asked)


def _has_prospect(one: _Ready) -> bool:
    present = seen_workers(0.0, one.job_id)
    if present and misfit(one.key, present) is None:
        return True
    wanted = outlook.wanted_by(one.key)
    return outlook.is_coming(one.job_id, wanted, 0.0) or outlook.will_be_asked(
        one.job_id, one.base, wanted, 0.0
    )


def _action_for(one: _Ready) -> JobAction | None:
    """The action that is to request nodes for these steps again, or does so now; None if that
    cannot help, or was done often enough."""
    job = Job.objects.get(id=one.job_id)
    if JobStatus(job.status).is_final or job.cancel_requested_at is not None:
        return None
    plan = blueprints.load(job.blueprint_id)
    latest = _latest(one)
    if latest is None or not (
        one.has_come_back
        or (_was_taken(latest) and outlook.comes_back(plan, one.base, one.losses, one.attempts))
    ):
        return None
    known = seen_workers(None, one.job_id)
    if known and misfit(one.key, known) not in (None, NOBODY):
        return None
    action = (
        JobAction.objects.filter(id=latest.action_id).exclude(status=ActionStatus.FAILED).first()
    )
    if action is None:
        return None
    units = runs.of([action.id]).filter(name__contains=runs.AGAIN)
    if units.exclude(status__in=FINAL_STEP).exists():
        return action
    tried = units.filter(ready_at__gte=one.ready_at).count()
    return action if tried < settings.STROEM.recovery.lost_retries else None


def _latest(one: _Ready) -> Allocation | None:
    """The allocation that was the last to serve these steps."""
    wanted = outlook.wanted_by(one.key)
    rows = Allocation.objects.filter(job_id=one.job_id, ended_at__isnull=False)
    if ANY_SCHEDULER not in wanted:
        rows = rows.filter(scheduler__in=wanted)
    return rows.exclude(slurm_job_id="").order_by("-ended_at").first()


def _was_taken(row: Allocation) -> bool:
    """Whether the allocation ended for no reason that would end the next one as well."""
    return row.status != AllocationStatus.FAILED or is_taken_away(row.state)


@retried
def _request(action_id: int, job_id: UUID) -> bool:
    state = step_pen.lock(job_id)
    if state is None or JobStatus(state.status).is_final:
        return False
    row = JobAction.objects.get(id=action_id)
    units: list[Unit] = list(runs.of([action_id]).filter(name__contains=runs.AGAIN))
    if any(unit.status not in FINAL_STEP for unit in units):
        return False
    runs.add_again(row, len(units) + 1)
    step_pen.note(job_id, "action_armed", f"{row}: its steps need nodes again")
    return True
