"""Which tasks a job of a task sets off: as steps, as hooks, and by triggers of its workspace."""

from __future__ import annotations

from collections.abc import Iterator

from engine.spec.fields import HOOK_LISTS
from engine.spec.model import Workspace


def after(workspace: Workspace, task: str) -> set[str]:
    """The tasks of the same workspace whose jobs start in or after a job of this one."""
    return {*_called(workspace, task), *_watching(workspace, task)}


def _called(workspace: Workspace, name: str) -> Iterator[str]:
    task = workspace.tasks.get(name)
    if task is None:
        return
    names = [step.action for step in task.flow.values()]
    names += [hook.action for event in HOOK_LISTS for hook in getattr(task.hooks, event)]
    for action in names:
        found = workspace.actions.get(action)
        if found is not None and found.task is not None:
            yield found.task


def _watching(workspace: Workspace, name: str) -> Iterator[str]:
    for trigger in workspace.triggers.values():
        if trigger.enabled and trigger.watches == ("", name):
            yield trigger.starts
