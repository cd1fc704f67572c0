"""Operations on jobs. Each opens its own transaction; bells ring after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from apps.accounts.models import User
from apps.jobs.database.sql import fetch_one, retried
from apps.jobs.flow import blueprints, cancellation, contexts, creation
from apps.jobs.flow.bursts import launch_all
from apps.jobs.flow.creation import Birth, Origin
from apps.jobs.flow.starting import create, launch, prepare, resolve_input, start_at
from apps.jobs.models import Job
from apps.jobs.transitions import moves as pen
from apps.workspaces.models import Revision, Workspace
from apps.workspaces.snapshots import definition_of
from engine.errors import Conflict, NotFound
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

TRIAL = "run"  # `manage.py run` tries a task out, on a database of its own


def start_job(
    workspace: str,
    task_name: str,
    given: Mapping[str, Any],
    *,
    source_type: str = "api",
    source_id: str = "",
    user: User | None = None,
    priority: int | None = None,
) -> Job:
    """Start a job of a task by hand, with checked input. Raises NotFound, InputError or Conflict
    before anything is written."""
    found = fetch_one(
        "SELECT id, current_id FROM workspaces_workspace WHERE name = %s", (workspace,)
    )
    if found is None or found[1] is None:
        raise _no_revision(workspace)
    revision = Revision(id=found[1], workspace_id=found[0])
    task = definition_of(revision.pk).tasks.get(task_name)
    if task is not None and not task.manual and source_id != TRIAL:
        raise Conflict(
            f"Task '{task_name}' is not started by hand (`manual: false`): its triggers, hooks and"
            " other tasks start it"
        )
    origin = Origin(
        source_type,
        source_id or (user.email if user else ""),
        user.pk if user else None,
        noted_in=workspace,
        noted_by=user.email if user else "",
    )
    return start_at(revision, task_name, given, origin, priority=priority)


def _no_revision(workspace: str) -> NotFound:
    found = Workspace.objects.filter(name=workspace).first()
    if found is None:
        return NotFound(f"Workspace '{workspace}' not found")
    problems = f": {len(found.problems)} problem(s), see `validate`" if found.problems else ""
    return NotFound(f"Workspace '{workspace}' has no usable revision{problems}")


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
    job, _ = creation.write(birth)
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
