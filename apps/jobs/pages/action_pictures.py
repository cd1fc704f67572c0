"""Workflow actions in the drawing of a flow: the nodes they stand beside, and the nodes they hold
back. Pure.

An action that waits for steps to end stands behind them; one set off before they run stands in
front. An action with more nodes than the eye can follow is drawn without lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from engine.spec.model import Task
from engine.workflow_actions import ENDS, READY, STARTS, Watched, watch_of

MOST_DRAWN = 60
MOST_LINES = 16


@dataclass(frozen=True, slots=True)
class DrawnAction:
    """`behind`: indexes of the nodes it stands behind; `before`: of those it stands in front of."""

    index: int
    label: str
    trigger: str
    is_barrier: bool
    behind: tuple[int, ...]
    before: tuple[int, ...]


def drawn_actions(task: Task, place: Mapping[str, int]) -> tuple[DrawnAction, ...]:
    """The actions of a task; `place` maps each step of the flow to its node."""
    if not task.workflow_actions:
        return ()
    after = {name for step in task.flow.values() for name in step.depends_on}
    first = [name for name, step in task.flow.items() if not step.depends_on]
    last = [name for name in task.flow if name not in after]
    return tuple(_drawn(one, place, first, last) for one in watch_of(task).actions[:MOST_DRAWN])


def _drawn(
    one: Watched, place: Mapping[str, int], first: Iterable[str], last: Iterable[str]
) -> DrawnAction:
    behind: Iterable[str] = ()
    before: Iterable[str] = ()
    match one.action.trigger_type:
        case trigger if trigger == STARTS:
            before = first
        case trigger if trigger == READY:
            before = (*one.selected, *one.loops)
        case trigger if trigger == ENDS:
            behind = last
        case "on_jobs_complete":
            behind, before = (*one.selected, *one.loops), one.held
    lines = [_nodes(names, place) for names in (behind, before)]
    return DrawnAction(one.index, one.label, one.action.trigger_type, one.action.barrier, *lines)


def _nodes(names: Iterable[str], place: Mapping[str, int]) -> tuple[int, ...]:
    found = sorted({place[name] for name in names if name in place})
    return tuple(found) if len(found) <= MOST_LINES else ()


def as_json(actions: Iterable[DrawnAction]) -> list[dict[str, Any]]:
    return [
        {
            "index": one.index,
            "label": one.label,
            "trigger": one.trigger,
            "barrier": one.is_barrier,
            "behind": list(one.behind),
            "before": list(one.before),
        }
        for one in actions
    ]
