"""Jobs that cannot come to a good end here are refused before there is anything of them."""

from __future__ import annotations

from apps.jobs import ports
from apps.jobs.flow.blueprints import SERVER_KINDS, Plan
from apps.workspaces.snapshots import definition_of
from engine.errors import AuthorError
from engine.spec.model import Workspace


def refuse_what_cannot_run(plan: Plan, revision_id: int) -> None:
    """Raise AuthorError when a step is of a type that nobody here carries out: a step of the task
    itself, or of one that it starts, at any depth. A job that would get half-way is worse than
    none."""
    below = []
    for name, node in plan.nodes.items():
        if _is_beyond_us(node.kind):
            raise AuthorError(
                f"step '{name}' is of type {node.kind}, which this version cannot run; remove it"
            )
        if node.action.task:
            below.append(node.action.task)
    if below:
        _refuse_below(below, definition_of(revision_id))


def _refuse_below(tasks: list[str], workspace: Workspace) -> None:
    seen = set(tasks)
    for name in tasks:  # grows on the way
        task = workspace.tasks.get(name)
        for step_name, step in task.flow.items() if task else ():
            action = workspace.actions.get(step.action)
            if action is None:
                continue  # of a library: the start of the child says so
            if _is_beyond_us(action.type):
                raise AuthorError(
                    f"step '{step_name}' of task '{name}', which this task starts, is of type"
                    f" {action.type}, which this version cannot run; remove it"
                )
            if action.task and action.task not in seen:
                seen.add(action.task)
                tasks.append(action.task)


def _is_beyond_us(kind: str) -> bool:
    return kind in SERVER_KINDS and not ports.can_carry_out(kind)
