"""A tool for each task that says `mcp: true`, with the task's fields as its typed parameters."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from apps.accounts.models import User
from apps.api import scope
from apps.jobs import services
from apps.jobs.models import Job
from apps.workspaces.revisions import definition_of, definitions_of
from apps.workspaces.rights import insist, sight_of
from engine.errors import NotFound
from engine.rights import Right
from engine.spec.model import Task
from engine.spec.schema_pieces import describe_fields

LONGEST_NAME = 64  # models accept no longer ones
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class TaskTool:
    name: str
    workspace: str
    task: str
    description: str
    schema: dict[str, Any]


def offered(user: User) -> list[TaskTool]:
    """A tool for each task that the user may run and whose author offers it."""
    return [
        TaskTool(
            name_of(workspace, name),
            workspace,
            name,
            f"{task.description or task.title or name} (Starts a job of task '{name}' in workspace"
            f" '{workspace}' and returns its id; follow it with wait_for_job.)",
            describe_fields(task.input),
        )
        for workspace, name, task in _offered(user)
    ]


def _offered(user: User) -> Iterator[tuple[str, str, Task]]:
    rows = [row for row in scope.workspaces(user) if row.current_id]
    sight = sight_of(user)
    known = definitions_of([row.current_id for row in rows if row.current_id])
    for row in rows:
        if row.current_id in known:
            for name, task in sorted(known[row.current_id].tasks.items()):
                if task.mcp and Right.RUN in sight.on(row.name, name):
                    yield row.name, name, task


def name_of(workspace: str, task: str) -> str:
    """A name that every model accepts. One that had to be changed carries a digest, so that no two
    tasks share one."""
    written = f"{workspace}__{task}"
    is_plain = "__" not in workspace and "__" not in task and len(written) <= LONGEST_NAME
    if is_plain and not _NOT_IN_A_NAME.search(written):
        return written
    digest = hashlib.blake2s(f"{workspace}/{task}".encode(), digest_size=4).hexdigest()
    return f"{_NOT_IN_A_NAME.sub('_', written)[: LONGEST_NAME - 9]}_{digest}"


def start(user: User, name: str, arguments: Mapping[str, Any]) -> dict[str, str]:
    """Start a job of the task behind this tool. Raises NotFound."""
    for workspace, task, _ in _offered(user):
        if name_of(workspace, task) == name:
            return {"job_id": str(execute(user, workspace, task, arguments).pk)}
    raise NotFound(f"There is no tool '{name[:100]}'")


def execute(user: User, workspace: str, task: str, values: Mapping[str, Any]) -> Job:
    """Start a job as the user may. Raises NotFound, PermissionDenied, InputError."""
    row = scope.task(user, workspace, task)
    definition = definition_of(row.current_id) if row.current_id else None
    if definition is None or task not in definition.tasks:
        raise NotFound("Task not found")
    insist(sight_of(user).on(workspace, task), Right.RUN, "View-only access")
    return services.start_job(row.name, task, values, source_type="mcp", user=user)
