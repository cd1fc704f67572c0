"""Operations on jobs. Each opens its own transaction; bells ring after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from apps.accounts.models import User
from apps.jobs.database.sql import retried
from apps.jobs.flow import blueprints, cancellation, contexts
from apps.jobs.flow.bursts import launch_all
from apps.jobs.flow.starting import (
    Birth,
    Origin,
    create,
    launch,
    prepare,
    resolve_input,
    start_at,
    start_job,
    write,
)
from apps.jobs.models import Job
from apps.jobs.transitions import moves as pen
from apps.workspaces.models import Workspace
from engine.errors import NotFound
from engine.lifecycle import JobEventKind
from engine.spec.model import Hooks, Task
from engine.spec.model import Workspace as Definition

__all__ = [
    "cancel_job",
    "create",
    "launch",
    "launch_all",
    "prepare",
    "record_job",
    "rerun_job",
    "resolve_input",
    "start_at",
    "start_job",
]


@retried
def record_job(
    workspace: Workspace,
    task_name: str,
    *,
    source_type: str,
    user: User,
    input: Mapping[str, Any],
    output: Mapping[str, Any],
) -> Job:
    """A job without steps that has already ended: the trace of what a person did without one."""
    assert workspace.current_id is not None, "the workspace has a revision"
    blueprint_id = blueprints.store(blueprints.body(Task(flow={}), Definition(), Hooks()))
    birth = Birth(
        blueprints.load(blueprint_id),
        task_name,
        workspace.pk,
        workspace.current_id,
        Origin(source_type, user.email, user.pk),
        input,
    )
    job, _ = write(birth)
    pen.move_job(job.id, JobEventKind.SUCCEEDED, output=output, actor=user.email)
    return job


def cancel_job(job_id: UUID, *, actor: str, reason: str = "Job cancelled") -> None:
    """Ask a job and its children to stop. Raises NotFound, or Conflict if it has already ended."""
    cancellation.cancel(job_id, actor=actor, reason=reason)


def rerun_job(job_id: UUID, *, actor: User | None, given: Mapping[str, Any] | None = None) -> Job:
    """Start a new job of the same task at the current revision, with the same input unless another
    is given."""
    old = Job.objects.select_related("workspace__current", "revision").filter(id=job_id).first()
    if old is None or old.workspace.current is None:
        raise NotFound(f"Job {job_id} not found")
    origin = Origin(
        "rerun",
        actor.email if actor else "",
        actor.pk if actor else None,
        rerun_of_id=old.id,
        scheduled_at=old.scheduled_at,
        noted_in=old.workspace.name,
        noted_by=actor.email if actor else "",
    )
    values = contexts.clear_input(old) if given is None else given
    return start_at(
        old.workspace.current, old.task_name, values, origin, hidden=contexts.hidden_of(old)
    )
