"""Libraries as people see them: where they are, at which pin, and what uses them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import QuerySet

from apps.workspaces.libraries import pins
from apps.workspaces.models import Library, Workspace
from apps.workspaces.refreshing import rounds
from apps.workspaces.revisions import definitions_of
from engine.spec.model import Workspace as Definition


@dataclass(frozen=True, slots=True)
class Listed:
    row: Library
    used_by: tuple[str, ...]  # tasks of the workspace, and its connections


def listed(workspaces: QuerySet[Workspace]) -> list[Listed]:
    """The libraries of these workspaces, by workspace and name."""
    rows = Library.objects.filter(workspace__in=workspaces).defer("sealed")
    found = list(rows.select_related("workspace").order_by("workspace__name", "name"))
    return with_users(found)


def with_users(rows: Iterable[Library]) -> list[Listed]:
    found = list(rows)
    definitions = definitions_of({row.workspace.current_id or 0 for row in found} - {0})
    nothing = Definition()
    return [
        Listed(row, users_of(row.name, definitions.get(row.workspace.current_id or 0, nothing)))
        for row in found
    ]


def users_of(library: str, definition: Definition) -> tuple[str, ...]:
    """What of a workspace uses the library, in words."""
    prefix = f"{library}."
    tasks = [
        f"task {name}"
        for name, task in definition.tasks.items()
        if not name.startswith(prefix)
        and any(_leads_to(prefix, step.action, definition) for step in task.flow.values())
    ]
    connections = [
        f"connection {name}"
        for name, values in definition.connections.items()
        if str(values.get("type")).startswith(prefix)
    ]
    return tuple(sorted(tasks) + sorted(connections))


def _leads_to(prefix: str, name: str, definition: Definition) -> bool:
    action = definition.actions.get(name)
    called = (action.task or "") if action is not None else ""
    return name.startswith(prefix) or called.startswith(prefix)


def refresh(workspace: Workspace, names: Iterable[str], by: str) -> Workspace:
    """Move the pins of these libraries, or of all, to what is the newest now, and read the
    workspace. Raises NotFound, Conflict, and what reading it raises."""
    pins.refresh(workspace, list(names), by)
    return rounds.refresh(workspace)
