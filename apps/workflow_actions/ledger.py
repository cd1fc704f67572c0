"""The worker's door to sessions and allocations."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import connections

from apps.jobs.values import Claim
from apps.workflow_actions import allocations, directories, expectations, runs, sessions
from apps.workflow_actions.allocations import OpenAllocation as OpenAllocation
from apps.workflow_actions.allocations import Submission as Submission
from engine.slurm_script import Launch


def enter(worker_id: UUID, job_id: UUID, allocation_id: UUID | None = None) -> int | None:
    """Open this worker's session for a job; actions that this sets off wait to be claimed."""
    return sessions.open_session(worker_id, job_id, allocation_id)


def is_entered(session_id: int) -> bool:
    """Whether the worker may begin steps of the job."""
    return sessions.is_entered(session_id)


def over(worker_id: UUID) -> list[int]:
    """This worker's sessions whose job has ended."""
    return sessions.over(worker_id)


def leave(session_id: int, reason: str) -> None:
    """The worker leaves the job; actions that this sets off wait to be claimed."""
    sessions.leave(session_id, reason)


def is_left(session_id: int) -> bool:
    """Whether the session has nothing left to do."""
    return sessions.is_left(session_id)


def is_needed(job_id: UUID, tag_set_ids: Sequence[int], worker_id: UUID | None = None) -> bool:
    """Whether a worker that serves only this job may still get a step of it."""
    return expectations.is_needed(job_id, tag_set_ids, worker_id)


def leaves_actions(job_id: UUID, worker_id: UUID, tag_set_ids: Sequence[int]) -> bool:
    """Whether an action of the job waits for this worker, or for any worker of its kind."""
    return expectations.leaves_actions(job_id, worker_id, tag_set_ids)


def submissions(
    claim: Claim, part: int, output_dir: str, launch: Launch
) -> list[Submission] | None:
    """What item `part` of the action requests from Slurm and does not have yet; None if the job is
    over. Raises AuthorError."""
    assert claim.owner_id is not None
    again = runs.number_of(claim.step_name)
    return allocations.submissions(claim.owner_id, part, output_dir, launch, again)


def submitted(allocation_id: UUID, slurm_job_id: str, cluster: str = "") -> bool:
    """sbatch accepted the request; False if the nodes must be cancelled at once."""
    return allocations.submitted(allocation_id, slurm_job_id, cluster)


def refused(allocation_id: UUID, error: str) -> None:
    allocations.refused(allocation_id, error)


def begun(allocation_id: UUID, slurm_job_id: str, difference: str = "") -> None:
    """A worker has started in the allocation; `difference`: how its output directory is not the one
    of the host that requested the nodes."""
    allocations.begun(allocation_id, slurm_job_id, difference)


def opened(job_id: UUID, directory: str, host: str) -> str:
    """A worker uses this directory as the job's own; returns how another's differs, or nothing."""
    return directories.opened(job_id, directory, host)


def to_follow() -> list[OpenAllocation]:
    return allocations.to_follow()


def released() -> None:
    """Return this thread's database connection."""
    connections.close_all()


def observed(allocation_id: UUID, state: str, *, nodes: str = "", reason: str = "") -> None:
    allocations.observed(allocation_id, state, nodes=nodes, reason=reason)
