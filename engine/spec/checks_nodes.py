"""Rules about nodes from Slurm: who requests them, and for how long they are granted."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from engine.plain import shorten
from engine.resources import read_runtime
from engine.spec.draft import task_subject
from engine.spec.model import Problem, Step, Task, Workspace
from engine.spec.problems import warning
from engine.spec.schedulers import TIME, words_of
from engine.spec.tags import ANY_SCHEDULER, schedulers_of

_SHOWN = 3
_USUAL = "01:00:00"
_DAYS = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")


def seconds_of(walltime: str) -> int | None:
    """How long Slurm grants nodes for, in whole minutes; None: without a limit. Without days, one
    number is minutes, and two are minutes and seconds."""
    found = _DAYS.fullmatch(walltime)
    if found is None:
        return None
    days, *parts = found.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is None and len(numbers) < 3:
        numbers.insert(0, 0)
    hours, minutes, seconds = (*numbers, 0, 0)[:3]
    total = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    return -(-total // 60) * 60 or None


def check_nodes(workspace: Workspace) -> Iterator[Problem]:
    """Steps that no nodes can ever run. Steps know their schedulers."""
    for name, task in workspace.tasks.items():
        known = {**workspace.slurm_schedulers, **task.slurm_schedulers}
        asked = {one for action in task.workflow_actions for one in schedulers_of(action)}
        for scheduler, names in _by_scheduler(task, lambda _: True).items():
            if scheduler in asked or scheduler == ANY_SCHEDULER:
                continue
            message = (
                f"{task_subject(name)}: no workflow action requests nodes of"
                f" '{shorten(scheduler)}', which alone may run {_listed(names)}: request them with"
                " 'action_type: schedule_nodes'"
            )
            yield warning(task.flow[names[0]].place or task.place, "nodes", message)
        yield from _check_times(workspace, task, {one: known.get(one, {}) for one in asked})


def _check_times(
    workspace: Workspace, task: Task, asked: Mapping[str, Mapping[str, Any]]
) -> Iterator[Problem]:
    longest = {name: _longest((scheduler,)) for name, scheduler in asked.items()}
    longest[ANY_SCHEDULER] = _longest(tuple(asked.values()))

    def is_late(step: Step) -> bool:
        action = workspace.actions.get(step.action)
        runtime = action.resources.get("runtime") if action is not None else None
        limit = longest.get(step.scheduler or "")
        return bool(runtime) and limit is not None and read_runtime(str(runtime)) > limit

    for scheduler, names in _by_scheduler(task, is_late).items():
        where = "any Slurm scheduler" if scheduler == ANY_SCHEDULER else f"'{shorten(scheduler)}'"
        message = (
            f"no nodes of {where} last as long as the 'runtime' of {_listed(names)}, which can"
            " never run there: raise the scheduler's 'walltime' or lower the 'runtime'"
        )
        yield warning(task.flow[names[0]].place or task.place, "nodes", message)


def _by_scheduler(task: Task, is_meant: Callable[[Step], bool]) -> Mapping[str, Sequence[str]]:
    """The steps that are meant, by their scheduler."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, step in task.flow.items():
        if step.scheduler is not None and is_meant(step):
            found[step.scheduler].append(name)
    return found


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{shorten(name)}'" for name in names[:_SHOWN])
    return f"{shown} and {len(names) - _SHOWN} more" if len(names) > _SHOWN else shown


def _longest(schedulers: tuple[Mapping[str, Any], ...]) -> int | None:
    """The most seconds that one of these grants; None if one has no limit, or a limit that only
    Slurm reads."""
    found = [
        None
        if any(map(TIME.match, words_of(str(one.get("extra") or ""))))
        else seconds_of(str(one.get("walltime") or _USUAL))
        for one in schedulers
    ]
    times = [seconds for seconds in found if seconds is not None]
    return max(times) if times and len(times) == len(found) else None
