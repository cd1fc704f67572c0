"""The nodes that a job may still get: those on their way, and those that an action will request."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.db.models import Q

from apps.jobs.database.sql import fetch_one
from apps.jobs.flow import blueprints
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.workflow_actions.models import JobAction
from apps.workflow_actions.watches import watch_of
from engine import dag
from engine.lifecycle import ActionStatus
from engine.resources import split_tags
from engine.retries import most_attempts
from engine.spec.tags import ANY_SCHEDULER, SLURM_PREFIX, schedulers_of
from engine.workflow_actions import Watched

# An active allocation is on its way until its worker has started; a worker from before Slurm
# requeued it does not count. Workers in allocations are named by the Slurm job number.
COMING = """
SELECT EXISTS (
    SELECT 1 FROM fleet_allocation a
    WHERE a.job_id = %(job)s AND (%(schedulers)s::text[] IS NULL
        OR a.scheduler = ANY(%(schedulers)s)) AND (
        (a.status IN ('requested', 'pending') AND a.cancel_requested_at IS NULL)
        OR a.ended_at > clock_timestamp() - make_interval(secs => %(timeout_s)s)
        OR (a.status = 'active'
            AND a.started_at > clock_timestamp() - make_interval(secs => %(starting_s)s)
            AND NOT EXISTS (
                SELECT 1 FROM fleet_worker w
                WHERE w.job_id = a.job_id AND w.name LIKE 'slurm-' || a.slurm_job_id || '-%%'
                    AND (w.stopped_at IS NULL OR w.stopped_at > a.started_at)))))
"""
STARTING_S = 600.0  # how long a running allocation may lack its worker
RECENT = "SELECT clock_timestamp() - make_interval(secs => %s)"


def wanted_by(key: str) -> set[str]:
    """The schedulers that a step of the tag set `key` asks for."""
    tags = split_tags(key)[0]
    return {tag.removeprefix(SLURM_PREFIX) for tag in tags if tag.startswith(SLURM_PREFIX)}


def is_coming(job_id: UUID, wanted: set[str], timeout_s: float) -> bool:
    """Whether nodes are on their way, or ended so recently that the time-out has only begun."""
    params = {
        "job": job_id,
        "schedulers": None if ANY_SCHEDULER in wanted else list(wanted),
        "timeout_s": timeout_s,
        "starting_s": STARTING_S,
    }
    row = fetch_one(COMING, params)
    return bool(row and row[0])


def will_be_asked(job_id: UUID, base: str, wanted: set[str], timeout_s: float) -> bool:
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
        if row.status != ActionStatus.WAITING or not waits_for(plan, one, row, base):
            return True
    return False


def comes_back(plan: Plan, base: str, losses: int, tries: int) -> bool:
    """Whether another attempt follows when the running one of this step is lost."""
    node = plan.nodes[base]
    choice = node.step.on_worker_lost or node.action.on_worker_lost
    recovery = settings.STROEM.recovery
    if (choice or recovery.on_worker_lost) == "retry" and losses < recovery.lost_retries:
        return True
    return node.retry is not None and tries < most_attempts(node.retry, None)


def waits_for(plan: Plan, one: Watched, row: JobAction, base: str) -> bool:
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
