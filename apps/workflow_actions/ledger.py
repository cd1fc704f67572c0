"""The worker's door to workflow actions: claim, renew, append, finish; sessions; allocations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections

from apps.fleet import tag_sets
from apps.jobs.door.surroundings import output_dir_of, torc_names
from apps.jobs.flow import blueprints, contexts
from apps.jobs.models import Job
from apps.workflow_actions import allocations, expectations, logs, services, sessions
from apps.workflow_actions import transitions as pen
from apps.workflow_actions.allocations import OpenAllocation, Submission
from apps.workflow_actions.models import JobAction
from apps.workflow_actions.watches import watch_of
from engine import workflow_actions
from engine.orders import Line, StepOutcome
from engine.slurm_script import Launch
from engine.spec.tags import SUBMITS, tag_set_key

__all__ = ["ActionClaim", "ActionRenewal", "OpenAllocation", "Submission"]

KEYS = tuple(tag_set_key(tags) for tags in (("script",), (SUBMITS,), ("script", SUBMITS)))


@dataclass(frozen=True, slots=True)
class ActionClaim:
    """One run of a workflow action that this worker holds until its lease runs out or it
    reports."""

    run_id: int
    fence: int
    action_id: int
    job_id: UUID
    label: str
    number: int
    do: tuple[Mapping[str, Any], ...]
    timeout_s: float | None
    output_dir: str  # empty: the one that this worker gives the job
    environment: Mapping[str, str]  # without the output directory
    masks: tuple[str, ...] = field(repr=False, default=())


@dataclass(frozen=True, slots=True)
class ActionRenewal:
    """Ids of runs that are not ours any more, and of those whose job asks them to stop."""

    lost: frozenset[int] = frozenset()
    cancelled: frozenset[int] = frozenset()


def covered(tags: Sequence[str]) -> tuple[tuple[int, str], ...]:
    """(id, key) of the tag sets of actions that a worker with these tags may do."""
    known = tag_sets.tag_set_ids(key for key in KEYS if set(key.split("+")) <= set(tags))
    return tuple((id, key) for key, id in known.items())


def claim(
    worker_id: UUID,
    tag_set_ids: Sequence[int],
    *,
    job_id: UUID | None = None,
    only_bound: bool = False,
) -> ActionClaim | None:
    """Take the oldest run that waits, or the oldest that only this worker can do; None when there
    is none."""
    lease_s = settings.STROEM.recovery.heartbeat_timeout_s
    row = pen.claim_run(
        worker_id, tag_set_ids, lease_s=lease_s, job_id=job_id, only_bound=only_bound
    )
    if row is None:
        return None
    run_id, action_id, of_job, fence, number, _ = row
    job = Job.objects.select_related("revision", "workspace").get(id=of_job)
    action_row = JobAction.objects.get(id=action_id)
    plan = blueprints.load(job.blueprint_id)
    one = watch_of(plan).actions[action_row.index]
    is_torc = plan.task.source_format == "torc"
    timeout = one.action.timeout
    return ActionClaim(
        run_id=run_id,
        fence=fence,
        action_id=action_id,
        job_id=of_job,
        label=one.label,
        number=number,
        do=one.action.do,
        timeout_s=timeout.seconds if timeout else settings.STROEM.default_step_timeout_s,
        output_dir=output_dir_of(plan.task),
        environment=workflow_actions.environment(
            job_id=str(of_job),
            trigger=action_row.trigger_type,
            label=one.label,
            outcome=action_row.outcome or workflow_actions.outcome_of(action_row.trigger_type, ()),
            torc=torc_names(str(of_job)) if is_torc else {},
        ),
        masks=contexts.masks_of(job),
    )


def renew(worker_id: UUID, live: Mapping[int, tuple[int, int]]) -> ActionRenewal:
    """Extend the leases of these runs: id -> (fence, commands begun so far)."""
    lease_s = settings.STROEM.recovery.heartbeat_timeout_s
    found = pen.renew_runs(worker_id, live, lease_s=lease_s, lasting=services.LASTING)
    return ActionRenewal(
        frozenset(live) - found.keys(),
        frozenset(run_id for run_id, must_stop in found.items() if must_stop),
    )


def append(claim: ActionClaim, seq: int, lines: Sequence[Line]) -> bool:
    """Store a batch of log lines; the same (run, seq) again changes nothing. False when the run has
    ended."""
    return logs.append(claim.run_id, claim.fence, claim.label, seq, lines)


def finish(claim: ActionClaim, outcome: StepOutcome, *, command: int | None = None) -> bool:
    """Report how a run ended; False when it is not this worker's any more."""
    return services.finish(claim.run_id, claim.fence, outcome, command=command)


def enter(worker_id: UUID, job_id: UUID, allocation_id: UUID | None = None) -> int | None:
    """This worker comes to a job: its session, with what that sets off waiting to be claimed."""
    return sessions.open_session(worker_id, job_id, allocation_id)


def is_entered(session_id: int) -> bool:
    """Whether the worker may begin steps of the job."""
    return sessions.is_entered(session_id)


def over(worker_id: UUID) -> list[int]:
    """Sessions of this worker whose job has ended."""
    return sessions.over(worker_id)


def leave(session_id: int, reason: str) -> None:
    """The worker leaves the job; what that sets off waits to be claimed."""
    sessions.leave(session_id, reason)


def is_left(session_id: int) -> bool:
    """Whether nothing is left to do for the session."""
    return sessions.is_left(session_id)


def is_needed(job_id: UUID, tag_set_ids: Sequence[int]) -> bool:
    """Whether a worker that serves this job alone may still get a step of it."""
    return expectations.is_needed(job_id, tag_set_ids)


def submissions(
    claim: ActionClaim, part: int, output_dir: str, launch: Launch
) -> list[Submission] | None:
    """What item `part` of the action asks of Slurm and has not got yet; None when the job is over.
    Raises AuthorError."""
    return allocations.submissions(claim.action_id, part, output_dir, launch)


def submitted(allocation_id: UUID, slurm_job_id: str) -> bool:
    """sbatch took the request; False when the nodes are to be cancelled at once."""
    return allocations.submitted(allocation_id, slurm_job_id)


def refused(allocation_id: UUID, error: str) -> None:
    allocations.refused(allocation_id, error)


def begun(allocation_id: UUID, slurm_job_id: str) -> None:
    allocations.begun(allocation_id, slurm_job_id)


def to_follow() -> list[OpenAllocation]:
    return allocations.to_follow()


def released() -> None:
    """Give this thread's database connection back."""
    connections.close_all()


def observed(allocation_id: UUID, state: str, *, nodes: str = "", reason: str = "") -> None:
    allocations.observed(allocation_id, state, nodes=nodes, reason=reason)
