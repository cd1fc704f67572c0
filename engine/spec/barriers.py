"""Finds barriers that nothing can lift: they hold back what an action that they need waits for."""

from __future__ import annotations

from collections.abc import Iterator

from engine import dag
from engine.spec.model import Task, WorkflowAction
from engine.spec.tags import awaited, selected


def never_lifted(task: Task) -> Iterator[tuple[int, str]]:
    """(index of the action, the action that it needs) for each such barrier."""
    named = {action.name: action for action in task.workflow_actions if action.name}
    needs = {name: action.needs for name, action in named.items()}
    graph = {name: step.depends_on for name, step in task.flow.items()}
    for index, action in enumerate(task.workflow_actions):
        if not action.barrier or not action.needs:
            continue
        held = _held(action, task, graph)
        for name in sorted(dag.closure(needs, action.needs)):
            if _waits_for(named[name], held, task, graph):
                yield index, name
                break


def _held(action: WorkflowAction, task: Task, graph: dag.Graph) -> frozenset[str]:
    """The steps that the barrier holds back, and all behind them."""
    dependents = dag.invert(graph)
    match action.trigger_type:
        case "on_workflow_start":
            return frozenset(graph)
        case "on_jobs_ready":
            return dag.closure(dependents, selected(action, task.flow))
        case "on_jobs_complete":
            behind = (one for name in selected(action, task.flow) for one in dependents[name])
            return dag.closure(dependents, behind)
        case _:
            return frozenset()


def _waits_for(needed: WorkflowAction, held: frozenset[str], task: Task, graph: dag.Graph) -> bool:
    """Whether the needed action fires only after one of the held steps has run."""
    match needed.trigger_type:
        case "on_workflow_complete" | "on_worker_complete":
            return bool(held)
        case "on_worker_start":
            return len(held) == len(graph)
        case _:
            return bool(awaited(needed, task.flow, graph) & held)
