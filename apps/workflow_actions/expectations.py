"""Whether nodes requested, or still to be requested, can run a step that no present worker can; and
the reverse: whether an allocation still has a step to wait for."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.conf import settings
from django.db.models import Q

from apps.fleet.matching import NOBODY, misfit, seen_workers
from apps.fleet.models import Allocation
from apps.jobs.database.sql import fetch, fetch_one
from apps.jobs.flow import blueprints
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.workflow_actions.models import JobAction
from apps.workflow_actions.watches import watch_of
from engine import dag
from engine.lifecycle import ActionStatus, JobStatus
from engine.resources import split_tags
from engine.spec.tags import ANY_SCHEDULER, SLURM_PREFIX, schedulers_of
from engine.workflow_actions import Watched

# The steps of the flow with these tag sets that wait, and whether any of each is ready.
OPEN_BASES = """
SELECT base, bool_or(status = 'ready') FROM jobs_step
WHERE job_id = %s AND owner_kind = 'step' AND status IN ('pending', 'ready')
    AND tag_set_id = ANY(%s) GROUP BY base
"""
# An active allocation is on its way until its worker has started; a worker from before Slurm
# requeued it does not count. Workers in allocations are named by the Slurm job number.
COMING = """
SELECT EXISTS (
    SELECT 1 FROM fleet_allocation a
    WHERE a.job_id = %(job)s AND (%(schedulers)s::text[] IS NULL
        OR a.scheduler = ANY(%(schedulers)s)) AND (
        a.status IN ('requested', 'pending')
        OR a.ended_at > clock_timestamp() - make_interval(secs => %(timeout_s)s)
        OR (a.status = 'active'
            AND a.started_at > clock_timestamp() - make_interval(secs => %(starting_s)s)
            AND NOT EXISTS (
                SELECT 1 FROM fleet_worker w
                WHERE w.job_id = a.job_id AND w.name LIKE 'slurm-' || a.slurm_job_id || '-%%'
                    AND (w.stopped_at IS NULL
                        OR w.started_at > a.started_at - interval '1 minute')))))
"""
STARTING_S = 600.0  # how long a running allocation may lack its worker
RECENT = "SELECT clock_timestamp() - make_interval(secs => %s)"


def expects(key: str, job_id: UUID, base: str) -> bool | str:
    """Whether a worker is expected that can run this ready step; else False, or the reason why
    not."""
    wanted = {
        tag.removeprefix(SLURM_PREFIX) for tag in split_tags(key)[0] if tag.startswith(SLURM_PREFIX)
    }
    timeout_s = float(settings.STROEM.recovery.unmatched_step_timeout_s)
    bound = seen_workers(timeout_s, job_id)
    if bound and misfit(key, bound) is None:
        return True
    if not wanted:
        return False
    if _is_coming(job_id, wanted, timeout_s):
        return True
    if _will_be_asked(job_id, base, wanted, timeout_s):
        return True
    return _refusal(key, job_id) or _failure(job_id, wanted) or False


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


def _is_coming(job_id: UUID, wanted: set[str], timeout_s: float) -> bool:
    """Whether nodes are on their way, or ended so recently that the time-out has only begun."""
    params = {
        "job": job_id,
        "schedulers": None if ANY_SCHEDULER in wanted else list(wanted),
        "timeout_s": timeout_s,
        "starting_s": STARTING_S,
    }
    row = fetch_one(COMING, params)
    return bool(row and row[0])


def _will_be_asked(job_id: UUID, base: str, wanted: set[str], timeout_s: float) -> bool:
    """Whether an action requests such nodes now, or will do so without waiting for this step."""
    job = Job.objects.get(id=job_id)
    plan = blueprints.load(job.blueprint_id)
    watch = watch_of(plan)
    rows = JobAction.objects.filter(job_id=job_id, generation=job.generation)
    for row in rows.filter(Q(ended_at=None) | Q(ended_at__gt=_ago(timeout_s))):
        one = watch.actions[row.index]
        asked = set(schedulers_of(one.action))
        if not asked or not (ANY_SCHEDULER in wanted or asked & wanted):
            continue
        if row.status != ActionStatus.WAITING or not _waits_for(plan, one, row, base):
            return True
    return False


def is_needed(job_id: UUID, tag_set_ids: Sequence[int]) -> bool:
    """Whether a worker in an allocation, serving this job's steps of these tag sets, may still get
    one. It does not wait for steps that will have nodes of their own."""
    job = Job.objects.filter(id=job_id).first()
    if job is None or JobStatus(job.status).is_final:
        return False
    bases = dict(fetch(OPEN_BASES, (job_id, list(tag_set_ids))))
    if not bases or any(bases.values()):
        return bool(bases)
    plan = blueprints.load(job.blueprint_id)
    rows = list(
        JobAction.objects.filter(
            job_id=job_id, generation=job.generation, status=ActionStatus.WAITING
        )
    )
    return not all(any(_comes_with(plan, row, base) for row in rows) for base in bases)


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
    return is_behind and not _waits_for(plan, one, row, base)


def _waits_for(plan: Plan, one: Watched, row: JobAction, base: str) -> bool:
    """Whether the action still waits for something that cannot come before the step has run."""
    missing = list(row.members.filter(reached_at=None).values_list("step_name", flat=True))
    graph = {name: step.depends_on for name, step in plan.task.flow.items()}
    awaited = dag.closure(graph, (name.partition("[")[0] for name in missing))
    if row.trigger_type == "on_jobs_ready" and base in missing:
        return False
    return base in awaited or one.action.trigger_type in (
        "on_workflow_complete",
        "on_worker_complete",
    )


def _ago(seconds: float) -> object:
    row = fetch_one(RECENT, (seconds,))
    assert row is not None
    return row[0]
