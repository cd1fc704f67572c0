"""Rules about the time that nodes from Slurm are granted for."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from engine.plain import shorten
from engine.resources import read_runtime
from engine.spec.model import Problem, Task, Workspace
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


def check_walltimes(workspace: Workspace) -> Iterator[Problem]:
    """Steps that need longer than any nodes for them are granted. Steps know their schedulers."""
    for task in workspace.tasks.values():
        if task.workflow_actions:
            yield from _check_task(workspace, task)


def _check_task(workspace: Workspace, task: Task) -> Iterator[Problem]:
    known = {**workspace.slurm_schedulers, **task.slurm_schedulers}
    asked = {name for action in task.workflow_actions for name in schedulers_of(action)}
    longest = {name: _longest((known.get(name, {}),)) for name in asked}
    longest[ANY_SCHEDULER] = _longest(tuple(known.get(name, {}) for name in asked))
    late: dict[str, list[str]] = defaultdict(list)
    for name, step in task.flow.items():
        action = workspace.actions.get(step.action)
        runtime = action.resources.get("runtime") if action is not None else None
        limit = longest.get(step.scheduler or "")
        if runtime and limit is not None and read_runtime(str(runtime)) > limit:
            late[step.scheduler or ""].append(name)
    for scheduler, names in late.items():
        shown = ", ".join(f"'{shorten(name)}'" for name in names[:_SHOWN])
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        where = "any Slurm scheduler" if scheduler == ANY_SCHEDULER else f"'{shorten(scheduler)}'"
        message = (
            f"no nodes of {where} last as long as the 'runtime' of {shown}{more}, which can never"
            " run there: raise the scheduler's 'walltime' or lower the 'runtime'"
        )
        yield warning(task.flow[names[0]].place or task.place, "walltime", message)


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
