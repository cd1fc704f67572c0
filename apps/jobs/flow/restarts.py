"""Restarts failed steps: the same job, revision and completed work, in its next generation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from apps.audit.services import note
from apps.jobs import bells, ports
from apps.jobs.database.sql import fetch, retried
from apps.jobs.flow import blueprints, starting
from apps.jobs.flow.advance import Advance
from apps.jobs.models import Job
from apps.jobs.transitions import moves as pen
from apps.jobs.transitions import reopening
from apps.jobs.transitions.reopening import Reopened
from engine import dag
from engine.errors import Conflict, NotFound
from engine.lifecycle import JobEventKind, JobStatus, StepStatus
from engine.planner import Tally
from engine.spec.model import Task

FLOW = """
SELECT id, base, status, tolerates FROM jobs_step
WHERE job_id = %s AND owner_kind = 'step' AND loop_id IS NULL
"""
AGAIN = frozenset({StepStatus.FAILED, StepStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class FlowStep:
    id: int
    base: str
    status: str
    tolerates: bool


def restart_failed(job_id: UUID, *, actor: str = "") -> None:
    """Open the next generation of a failed or cancelled job: failed and cancelled steps, and steps
    skipped because of them, run again; completed steps stay. Raises NotFound, or Conflict if the
    job is in another state."""
    _restart(job_id, actor)


@retried
def _restart(job_id: UUID, actor: str) -> None:
    state = pen.lock(job_id)
    if state is None:
        raise NotFound(f"Job {job_id} not found")
    if state.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
        raise Conflict(
            f"only a failed or cancelled job can be restarted; this one is {state.status}"
        )
    _refuse_while_tried_again(job_id)
    plan = blueprints.load(state.blueprint_id)
    flow = {row[1]: FlowStep(*row) for row in fetch(FLOW, (job_id,))}
    again = chosen(plan.task, {name: step.status for name, step in flow.items()})
    if not again:
        raise Conflict("no step of this job failed or was cancelled; run it again instead")
    reopened = [_reopened(plan.task, flow, again, name) for name in again]
    blocked = Counter(
        dependent
        for name in again
        for dependent in plan.nodes[name].dependents
        if dependent not in again
    )
    reopening.reopen_steps(reopened)
    reopening.reopen_instances([step.id for step in reopened])
    reopening.hold_back({flow[name].id: count for name, count in blocked.items()})
    timeout_s = starting.time_out_s(plan)
    reopening.reopen_job(job_id, open_steps=len(again), timeout_s=timeout_s)
    if not pen.move_job(job_id, JobEventKind.REOPENED, actor=actor):
        raise Conflict("the job's status has changed in the meantime")
    fresh = pen.lock(job_id)
    assert fresh is not None
    job = Job.objects.select_related("revision", "workspace").get(id=job_id)
    told = f"task {job.task_name}"
    note("job.restart", job_id, by=actor, workspace=job.workspace.name, detail=told)
    if job.has_actions:
        ports.born(job, plan)
    advance = Advance(fresh, plan)
    advance.consider(starting.roots_of(job_id))
    advance.run()
    bells.ring_after_commit(advance.bells)


def _refuse_while_tried_again(job_id: UUID) -> None:
    retry_id = Job.objects.values_list("retry_job_id", flat=True).get(id=job_id)
    following = Job.objects.filter(id=retry_id).first() if retry_id else None
    if following is not None and not JobStatus(following.status).is_final:
        raise Conflict(
            f"this job is already being retried as job {following.id}; cancel that one first"
        )


def chosen(task: Task, statuses: Mapping[str, str]) -> list[str]:
    """Names of the steps to open again, in topological order."""
    order = dag.topological_order({name: step.depends_on for name, step in task.flow.items()})
    again: set[str] = set()
    for name in order:
        behind = any(dependency in again for dependency in task.flow[name].depends_on)
        if statuses[name] in AGAIN or (statuses[name] == StepStatus.SKIPPED and behind):
            again.add(name)
    return [name for name in order if name in again]


def _reopened(task: Task, flow: Mapping[str, FlowStep], again: list[str], name: str) -> Reopened:
    kept = [
        flow[dependency] for dependency in task.flow[name].depends_on if dependency not in again
    ]
    tally = Tally(
        completed=sum(step.status == StepStatus.COMPLETED for step in kept),
        failed=0,
        skipped=sum(step.status == StepStatus.SKIPPED for step in kept),
    )
    return Reopened(flow[name].id, len(task.flow[name].depends_on) - len(kept), tally)
