"""The output of `validate`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from engine.plain import shorten
from engine.spec.model import Loaded, Workspace
from engine.spec.slurm import JOB_TRIGGERS, is_affordable, select_steps

_SHOWN = 12
_COUNTED = ("actions", "tasks", "triggers", "connections")


def report(loaded: Loaded) -> str:
    """Each problem (`file:line:column: error: sentence`) with the line it is about, the steps that
    workflow actions select, and a summary."""
    lines = [
        line for problem in loaded.problems for line in (str(problem), problem.excerpt) if line
    ]
    if loaded.workspace is not None:
        lines += _selections(loaded.workspace)
    errors = len(loaded.errors)
    warnings = len(loaded.problems) - errors
    counted = ", ".join(
        _count(number, word)
        for number, word in ((errors, "error"), (warnings, "warning"))
        if number
    )
    if loaded.workspace is None:
        lines.append(f"Not valid: {counted}.")
    elif is_empty(loaded):
        lines.append("Nothing to check: there are no tasks, actions, triggers or connections.")
    else:
        lines.append(f"Valid: {_contents(loaded.workspace)}{f' ({counted})' if counted else ''}.")
    return "\n".join(lines)


def is_empty(loaded: Loaded) -> bool:
    """Whether there is nothing in the files that anybody could use or mistake."""
    workspace = loaded.workspace
    if workspace is None:
        return False
    return workspace == replace(
        Workspace(),
        settings=workspace.settings,
        mentions_state=workspace.mentions_state,
        mentions_artifacts=workspace.mentions_artifacts,
        mentions_helper=workspace.mentions_helper,
    )


def _selections(workspace: Workspace) -> Iterator[str]:
    for task_name, task in workspace.tasks.items():
        for action in task.workflow_actions:
            if action.trigger_type in JOB_TRIGGERS and is_affordable(task):
                names = select_steps(action, task.flow)
                shown = ", ".join(shorten(name) for name in names[:_SHOWN])
                more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
                selected = f"selects {shown or 'no step yet'}{more}"
                yield (
                    f"{action.place}: note: {action.trigger_type} of task '{task_name}' {selected}"
                )


def _contents(workspace: Workspace) -> str:
    named = {
        name: action
        for name, action in workspace.actions.items()
        if not name.startswith("_inline:")
    }
    numbers = {
        word: len(named) if word == "actions" else len(getattr(workspace, word))
        for word in _COUNTED
    }
    found = [_count(number, word.removesuffix("s")) for word, number in numbers.items() if number]
    return ", ".join(found) or "no tasks or actions"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
