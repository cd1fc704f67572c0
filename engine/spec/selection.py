"""Which steps a workflow action watches. Patterns run on a linear engine: no pattern can hang
it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Literal

import re2

from engine.errors import AuthorError
from engine.spec.model import Task, WorkflowAction

_LONGEST = 1000
_MOST_MATCHES = 50_000  # a tenth of a second
_MOST_TRIALS = 400_000  # of a pattern on a name: whoever watches the steps tries them all
_LOOP_COUNTS = 500  # a loop that may add steps takes as long as so many steps
TOO_MANY_TRIALS = (
    f"the patterns of these workflow actions would have to be tried more than {_MOST_TRIALS:,}"
    " times: join them with '|', or name the steps in 'jobs'"
)

NODES_FOR_NOTHING = (
    "schedule_nodes has no effect on on_workflow_complete: no step is left that nodes could run"
)


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Any:
    """The compiled pattern; raises AuthorError with the reason when it is none."""
    if len(pattern) > _LONGEST:
        raise AuthorError(f"it is longer than {_LONGEST} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1_000_000
    try:
        return re2.compile(pattern, options)
    except (re2.error, UnicodeError) as wrong:
        reason = wrong.args[0] if wrong.args else "it does not parse"
        raise AuthorError(
            reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        ) from None


def match_names(
    pattern: str, names: Iterable[str], match: Literal["full", "search"]
) -> tuple[str, ...]:
    compiled = compile_pattern(pattern)
    find = compiled.fullmatch if match == "full" else compiled.search
    return tuple(name for name in names if find(name))


def is_affordable(task: Task) -> bool:
    """Whether to try all patterns on all steps just to tell the author what they select."""
    patterns = sum(len(action.job_name_regexes) for action in task.workflow_actions)
    return patterns * len(task.flow) <= _MOST_MATCHES


def is_endless(actions: Iterable[WorkflowAction], steps: int, loops: int = 0) -> bool:
    """Whether to find what these actions select would keep the platform busy for more than a
    moment."""
    patterns = {
        (pattern, action.match) for action in actions for pattern in action.job_name_regexes
    }
    return len(patterns) * (steps + _LOOP_COUNTS * loops) > _MOST_TRIALS


def asks_in_vain(action: WorkflowAction) -> bool:
    """Whether the action asks for nodes when its job is over."""
    is_asking = any(doing["action_type"] == "schedule_nodes" for doing in action.do)
    return is_asking and action.trigger_type == "on_workflow_complete"


def select_steps(action: WorkflowAction, names: Iterable[str]) -> tuple[str, ...]:
    """Those of `names` that the action selects, by name or pattern, in the order of `names`."""
    names = tuple(names)
    chosen = set(action.jobs)
    for pattern in action.job_name_regexes:
        chosen.update(match_names(pattern, names, action.match))
    return tuple(name for name in names if name in chosen)
