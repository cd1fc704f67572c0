"""Whether nodes requested, or still to be requested, can run a step that no present worker can; and
the reverse: whether an allocation still has a step to wait for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

from django.conf import settings

from apps.fleet.matching import NOBODY, WorkerOffer, misfit, seen_workers
from apps.fleet.models import Allocation
from apps.jobs.database.sql import fetch, fetch_one
from apps.jobs.flow import blueprints
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.workflow_actions import again, outlook
from apps.workflow_actions.models import JobAction
from apps.workflow_actions.watches import watch_of
from engine import dag
from engine.lifecycle import ActionStatus, JobStatus
from engine.spec.tags import ANY_SCHEDULER, schedulers_of

# The steps of the flow with these tag sets that wait, and whether any of each is ready.
OPEN_BASES = """
SELECT base, bool_or(status = 'ready') FROM jobs_step
WHERE job_id = %s AND owner_kind = 'step' AND status IN ('pending', 'ready')
    AND tag_set_id = ANY(%s) GROUP BY base
"""
# Steps of these tag sets that run on other workers.
ELSEWHERE = """
SELECT base, losses, attempts FROM jobs_step
WHERE job_id = %(job)s AND owner_kind = 'step' AND status = 'running' AND worker_id <> %(worker)s
    AND tag_set_id = ANY(%(sets)s)
"""
IDLE = """
SELECT w.id FROM fleet_worker w WHERE w.job_id = %(job)s AND w.stopped_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM jobs_attempt a WHERE a.worker_id = w.id AND a.ended_at IS NULL)
ORDER BY w.started_at, w.id
"""
LEFT_ACTIONS = """
SELECT EXISTS (
    SELECT 1 FROM jobs_step WHERE job_id = %(job)s AND owner_kind = 'action'
        AND (status = 'ready' OR (status = 'pending' AND retry_at IS NOT NULL))
        AND tag_set_id = ANY(%(sets)s)
        AND (bound_to IS NULL OR bound_to = %(worker)s)
) OR EXISTS (
    SELECT 1 FROM workflow_actions_jobaction WHERE job_id = %(job)s AND NOT is_settled)
"""


def expects(key: str, job_id: UUID, base: str) -> bool | str:
    """Whether a worker is expected that can run this ready step; else False, or the reason why
    not."""
    wanted = outlook.wanted_by(key)
    timeout_s = float(settings.STROEM.recovery.unmatched_step_timeout_s)
    bound = seen_workers(timeout_s, job_id)
    if bound and misfit(key, bound, workspace_of(job_id, bound)) is None:
        return True
    if not wanted:
        return False
    if outlook.is_coming(job_id, wanted, timeout_s):
        return True
    if outlook.will_be_asked(job_id, base, wanted, timeout_s):
        return True
    if again.will_be_asked(key, job_id, base):
        return True
    return _refusal(key, job_id) or _failure(job_id, wanted) or False


def workspace_of(job_id: UUID, workers: Iterable[WorkerOffer]) -> str | None:
    """The job's workspace, where it matters to one of these workers."""
    if not any(worker.workspaces for worker in workers):
        return None
    return str(Job.objects.values_list("workspace__name", flat=True).get(id=job_id))


def _refusal(key: str, job_id: UUID) -> str | None:
    """What the step requires that none of the job's allocations had, including ended ones."""
    known = seen_workers(None, job_id)
    why = misfit(key, known) if known else None
    return None if why is None or why.startswith(NOBODY) else why


def _failure(job_id: UUID, wanted: set[str]) -> str | None:
    """What became of the nodes that the step waited for."""
    allocations = Allocation.objects.filter(job_id=job_id)
    if ANY_SCHEDULER not in wanted:
        allocations = allocations.filter(scheduler__in=wanted)
    row = allocations.exclude(error="").order_by("-ended_at").first()
    return f"No nodes of '{row.scheduler}' could run this step. {row.error}" if row else None


def is_needed(job_id: UUID, tag_set_ids: Sequence[int], worker_id: UUID | None = None) -> bool:
    """Whether a worker in an allocation, serving this job's steps of these tag sets, may still get
    one. It does not wait for steps that will have nodes of their own."""
    job = Job.objects.filter(id=job_id).first()
    if job is None or JobStatus(job.status).is_final:
        return False
    plan = blueprints.load(job.blueprint_id)
    if worker_id is not None and _is_reserve(job_id, plan, tag_set_ids, worker_id):
        return True
    bases = dict(fetch(OPEN_BASES, (job_id, list(tag_set_ids))))
    if not bases or any(bases.values()):
        return bool(bases)
    rows = list(
        JobAction.objects.filter(
            job_id=job_id, generation=job.generation, status=ActionStatus.WAITING
        )
    )
    return not all(any(_comes_with(plan, row, base) for row in rows) for base in bases)


def _is_reserve(job_id: UUID, plan: Plan, tag_set_ids: Sequence[int], worker_id: UUID) -> bool:
    """Whether this worker stays for steps that run elsewhere and come back if they are lost: as
    many idle workers stay as there are such steps."""
    params = {"job": job_id, "worker": worker_id, "sets": list(tag_set_ids)}
    rows = fetch(ELSEWHERE, params)
    returning = sum(outlook.comes_back(plan, base, losses, tries) for base, losses, tries in rows)
    if not returning:
        return False
    idle = [row[0] for row in fetch(IDLE, params)]
    return worker_id in idle[:returning]


def leaves_actions(job_id: UUID, worker_id: UUID, tag_set_ids: Sequence[int]) -> bool:
    """Whether actions of the job of these tag sets wait for this worker or any other, or what
    follows from ended ones was not done yet."""
    params = {"job": job_id, "worker": worker_id, "sets": list(tag_set_ids)}
    row = fetch_one(LEFT_ACTIONS, params)
    return bool(row and row[0])


def _comes_with(plan: Plan, row: JobAction, base: str) -> bool:
    """Whether this waiting action is certain to request nodes for the step, if the step runs at
    all."""
    one = watch_of(plan).actions[row.index]
    asked, scheduler = schedulers_of(one.action), plan.task.flow[base].scheduler
    if (
        one.action.when is not None
        or one.action.needs
        or not asked
        or scheduler not in (ANY_SCHEDULER, *asked)
    ):
        return False
    graph = {name: step.depends_on for name, step in plan.task.flow.items()}
    selected = {*one.selected, *one.loops}
    is_behind = not selected.isdisjoint(dag.closure(graph, [base]))
    return is_behind and not outlook.waits_for(plan, one, row, base)
