"""The task argument of commands that take a folder or file: optional if there is only one."""

from __future__ import annotations

from engine.errors import AuthorError
from engine.spec.model import Workspace
from engine.spec.problems import did_you_mean


def pick_task(workspace: Workspace, asked: str | None, typed: str) -> str:
    names = list(workspace.tasks)
    if asked is None and len(names) == 1:
        return names[0]
    if not names:
        raise AuthorError(f"{typed} has no task to run: add one under 'tasks'.")
    known = f"it has {', '.join(names[:20])}"
    if asked is None:
        raise AuthorError(f"Name the task of {typed} to run: {known}.")
    if asked not in workspace.tasks:
        raise AuthorError(
            f"{typed} has no task '{asked}'{did_you_mean(asked, names) or ': ' + known}."
        )
    return asked
