"""Checks of connections: the type's action runs with the connection, and must pass."""

from __future__ import annotations

import json
from collections.abc import Collection

from django.db.models import QuerySet

from apps.accounts.models import User
from apps.jobs import services
from apps.jobs.flow import blueprints
from apps.jobs.flow.starting import Origin
from apps.jobs.log import cursors
from apps.jobs.models import Job
from apps.jobs.values import CHECKS
from apps.workspaces.connections import Listed, connections_in
from apps.workspaces.models import Revision, Workspace
from apps.workspaces.revisions import definition_of
from engine.errors import Conflict, NotFound
from engine.plain import shorten
from engine.spec.connection_types import taking
from engine.spec.model import Hooks, Step, Task
from engine.spec.model import Workspace as Definition

SOURCE = "check"  # of jobs that check a connection; their source id is its name
STEP = "check"
SHOWN_LINES = 30


def task_of(name: str) -> str:
    """What its jobs run, for rights on them: no task of the files."""
    return f"{CHECKS}{name}"


def find(workspace: Workspace, name: str) -> tuple[Listed, Definition]:
    """The connection of this name, of the files or the database. Raises NotFound."""
    definition = definition_of(workspace.current_id) if workspace.current_id else Definition()
    found = connections_in(workspace, definition).get(name)
    if found is None:
        raise NotFound(f"Connection '{shorten(name)}' not found")
    return found, definition


def obstacle(one: Listed, definition: Definition) -> str:
    """Why this connection cannot be checked, and what to do; empty if it can."""
    if one.trouble:
        return one.advice
    if one.type is None:
        return "It has no type, and a type's `check` says how to check a connection"
    if one.type not in definition.connection_checks:
        return (
            f"Type '{one.type}' says nothing about checking: put `check: ACTION` into it, the name"
            f" of an action with an input of type '{one.type}'"
        )
    return ""


def start(workspace: Workspace, name: str, by: User | None) -> Job:
    """Start the check of a connection: a job of one step. Raises NotFound, or Conflict if it cannot
    be checked."""
    one, definition = find(workspace, name)
    why = obstacle(one, definition)
    if why or one.type is None:
        raise Conflict(f"Connection '{name}' cannot be checked. {why}")
    action = definition.connection_checks[one.type]
    taken = taking(definition.actions[action], one.type)
    if taken is None:
        raise Conflict(f"Action '{action}' has no input of type '{one.type}' any more")
    step = Step(action=action, input={taken: f"{{{{ input[{json.dumps(taken)}] }}}}"})
    content = blueprints.body(Task(flow={STEP: step}), definition, Hooks())
    revision = Revision(id=workspace.current_id, workspace_id=workspace.pk)
    return services.launch(
        revision,
        task_of(name),
        blueprints.store(content),
        {taken: name},
        Origin(
            SOURCE,
            name,
            by.pk if by else None,
            noted_in=workspace.name,
            noted_by=by.email if by else "",
        ),
        allow_unknown=True,
    )


def checks_of(workspace: Workspace, name: str) -> QuerySet[Job]:
    """The jobs that have checked a connection, newest first."""
    rows = Job.objects.filter(source_type=SOURCE, source_id=name, workspace=workspace)
    return rows.defer("input", "input_sealed", "output").order_by("-created_at")


def last_checks(workspaces: Collection[Workspace]) -> dict[tuple[int, str], Job]:
    """The newest check of each connection, by the id of its workspace and its name."""
    rows = Job.objects.filter(source_type=SOURCE, workspace__in=workspaces)
    newest = rows.order_by("workspace_id", "source_id", "-created_at")
    newest = newest.defer("input", "input_sealed", "output")
    found = newest.distinct("workspace_id", "source_id")
    return {(job.workspace_id, job.source_id): job for job in found}


def last_lines(job: Job) -> list[str]:
    """The end of its log, as far as it is short."""
    piece = cursors.read([job.pk], cursors.Cursor())
    lines = [json.loads(line) for _, chunk in piece.chunks for line in chunk.splitlines()]
    return [str(line["line"]) for line in lines[-SHOWN_LINES:]]
