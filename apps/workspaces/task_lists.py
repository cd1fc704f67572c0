"""Notes which tasks a workspace has, in which folder, and whom its files keep rights to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.workspaces.models import TaskList, Workspace
from engine.rights import Access, Keepers, Right, matches, path_of
from engine.spec.model import Kept
from engine.spec.model import Workspace as Definition

WHOLE = ""  # stands for the workspace itself


def note(workspace: Workspace, definition: Definition) -> None:
    """In the transaction that puts the definition into force, with the workspace's row locked."""
    known = TaskList.objects.filter(pk=workspace.pk).first()
    tasks = dict(known.tasks) if known else {}
    tasks[WHOLE] = [None, _kept_to(definition, {}, None)]
    for name, task in definition.tasks.items():
        tasks[name] = [task.folder, _kept_to(definition, task.access, path_of(name, task.folder))]
    is_kept = any(access for _, access in tasks.values())
    if known is None or (known.tasks, known.is_kept) != (tasks, is_kept):
        values = {"tasks": tasks, "is_kept": is_kept}
        TaskList.objects.update_or_create(pk=workspace.pk, defaults=values)


def _kept_to(definition: Definition, own: Mapping[str, Kept], path: str | None) -> Any:
    """By right: everybody whom one rule keeps it to, for each rule."""
    found: dict[str, list[dict[str, list[str]]]] = {}
    shared = [
        rules
        for pattern, rules in definition.access.items()
        if (pattern.strip("*") == "" if path is None else matches(pattern, path))
    ]
    for rules in (own, *shared):
        for right, kept in rules.items():
            said = {"users": [email.lower() for email in kept.users], "groups": list(kept.groups)}
            found.setdefault(right, []).append(said)
    return found


def access_of(stored: Any) -> Access:
    return {
        Right(right): [Keepers(tuple(one["users"]), tuple(one["groups"])) for one in circles]
        for right, circles in stored.items()
    }
