"""Starting a job for a caller, possibly as a repetition of an older one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from rest_framework.exceptions import ParseError

from apps.accounts.models import User
from apps.api import scope
from apps.jobs import services
from apps.jobs.flow.contexts import clear_input
from apps.jobs.models import Job
from apps.triggers import starts
from apps.workspaces.models import Workspace
from engine.errors import NotFound
from engine.masking import MASK


def start(user: User, workspace: Workspace, task: str, body: Mapping[str, Any]) -> Job:
    """A new job of `task`; `source_job_id` links it to the job that it repeats.

    A value left at the mask means "unchanged": callers never see what it stands for.
    """
    given = body.get("input")
    source_id = body.get("source_job_id")
    if not source_id:
        return services.start_job(workspace.name, task, given or {}, source_type="user", user=user)
    source = _source(user, workspace, task, source_id)
    values = None if given is None else _unmasked(given, source)
    return services.rerun_job(source.pk, actor=user, given=values)


def start_once(
    user: User, workspace: Workspace, task: str, body: Mapping[str, Any], key: str
) -> tuple[UUID, bool]:
    """The job of this start, and whether an earlier request with the same key started it."""
    owner = f"{user.pk}/{workspace.pk}/{task}"
    return starts.start_once(owner, key, body, lambda: start(user, workspace, task, body).pk)


def _source(user: User, workspace: Workspace, task: str, source_id: str) -> Job:
    try:
        source = scope.job(user, source_id)
    except NotFound:
        raise ParseError(f"Source job {source_id} not found") from None
    if source.workspace_id != workspace.pk:
        raise ParseError("Source job belongs to a different workspace")
    if source.task_name != task:
        raise ParseError("Source job is a run of another task")
    return source


def _unmasked(given: Mapping[str, Any], source: Job) -> dict[str, Any]:
    before = clear_input(source)
    kept = {name: before[name] for name, value in given.items() if value == MASK and name in before}
    return {name: value for name, value in given.items() if value != MASK} | kept
