"""Reads workflow actions from YAML; finds the steps that an action selects.

Patterns run on a linear-time engine: no pattern can hang it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Literal, cast

import re2

from engine.errors import AuthorError
from engine.plain import shorten
from engine.spec.draft import Node
from engine.spec.entry import Entry, read_retry
from engine.spec.model import Task, WorkflowAction

TRIGGERS = (
    "on_workflow_start", "on_workflow_complete", "on_jobs_ready", "on_jobs_complete",
    "on_worker_start", "on_worker_complete",
)  # fmt: skip
JOB_TRIGGERS = ("on_jobs_ready", "on_jobs_complete")
WORKER_TRIGGERS = ("on_worker_start", "on_worker_complete")
ACTION_TYPES = ("run_commands", "schedule_nodes")
PLACES = ("nodes", "any")
_MOST_ACTIONS, _MOST_PATTERNS = 200, 100
_RUN_FIELDS = ("commands",)
_NODE_FIELDS = (
    "scheduler", "scheduler_type", "num_allocations", "start_one_worker_per_node",
    "max_parallel_jobs",
)  # fmt: skip
_DOING = ("action_type", *_RUN_FIELDS, *_NODE_FIELDS)
_FIELDS = (
    "name", "trigger_type", "jobs", "job_name_regexes", "persistent", "do", "barrier", "needs",
    "when", "retry",
    "timeout", "rerun", "on_failure", "where", *_DOING,
)  # fmt: skip

_LONGEST_PATTERN = 1000
_MOST_MATCHES = 50_000  # a tenth of a second
_MOST_TRIALS = 400_000  # of a pattern on a name: every watcher of the steps tries them all
_LOOP_COUNTS = 500  # a loop that may add steps costs as much as this many steps
TOO_MANY_TRIALS = (
    f"the patterns of these workflow actions would have to be tried more than {_MOST_TRIALS:,}"
    " times: join them with '|', or name the steps in 'jobs'"
)
NODES_FOR_NOTHING = (
    "schedule_nodes has no effect on on_workflow_complete: no step is left to run on the nodes"
)


def read_workflow_actions(
    entry: Entry, key: str = "workflow_actions"
) -> tuple[WorkflowAction, ...]:
    found = []
    nodes = entry.items(key)
    if len(nodes) > _MOST_ACTIONS:
        entry.complain(
            key, f"holds {len(nodes)} workflow actions (max {_MOST_ACTIONS})", "too-many"
        )
    for index, node in enumerate(nodes[:_MOST_ACTIONS]):
        action = _read_workflow_action(
            Entry(node, f"{entry.subject} {key}[{index}]", entry.problems)
        )
        if action:
            found.append(action)
    return tuple(found)


def _read_workflow_action(entry: Entry) -> WorkflowAction | None:
    if not isinstance(entry.node.value, dict):
        return None
    entry.refuse_unknown(_FIELDS)
    trigger = _read_word(entry, "trigger_type", TRIGGERS)
    do = _read_do(entry)
    if len(entry.texts("job_name_regexes")) > _MOST_PATTERNS:
        entry.complain(
            "job_name_regexes",
            f"holds more than {_MOST_PATTERNS} patterns; join them with '|'",
            "too-many",
        )
        return None
    if trigger is None or do is None:
        return None
    return WorkflowAction(
        trigger_type=trigger,
        do=do,
        name=entry.text("name"),
        jobs=entry.texts("jobs"),
        job_name_regexes=entry.texts("job_name_regexes"),
        persistent=entry.flag("persistent", trigger in WORKER_TRIGGERS),
        barrier=entry.flag("barrier"),
        needs=entry.texts("needs"),
        when=entry.loose_text("when"),
        retry=read_retry(entry),
        timeout=entry.duration("timeout"),
        rerun=cast(
            Literal["always", "affected", "never"],
            entry.choice("rerun", ("always", "affected", "never"), "affected"),
        ),
        on_failure=cast(
            Literal["ignore", "fail_job"],
            entry.choice("on_failure", ("ignore", "fail_job"), "ignore"),
        ),
        where=cast(
            Literal["nodes", "any"] | None,
            entry.choice("where", PLACES, "any") if entry.get("where") is not None else None,
        ),
        place=entry.node.place,
    )


def _read_word(entry: Entry, key: str, words: tuple[str, ...]) -> str | None:
    if entry.get(key) is None:
        message = f"{entry.subject} is missing '{key}' (one of: {', '.join(words)})"
        entry.problems.error(entry.node.place, "missing-field", message)
    return entry.word(key, words, key.replace("_", "-"), "unknown")


def _read_do(entry: Entry) -> tuple[Mapping[str, Any], ...] | None:
    """The action's items in order: the `do` list, or the single item beside `trigger_type`."""
    if entry.get("do") is None:
        one = _read_doing(entry)
        return (one,) if one else None
    beside = [key for key in _DOING if entry.get(key) is not None]
    if beside:
        message = (
            f"{entry.subject} has both 'do' and '{beside[0]}': move '{beside[0]}' into an item of"
            " 'do'"
        )
        entry.problems.error(entry.at(beside[0]), "do", message)
    nodes = entry.items("do")
    if not nodes and isinstance(getattr(entry.get("do"), "value", None), tuple):
        entry.problems.error(
            entry.at("do"), "do", f"{entry.subject} has an empty 'do': it needs an item"
        )
    found = [_read_item(entry, index, node) for index, node in enumerate(nodes)]
    return tuple(one for one in found if one) if nodes and all(found) else None


def _read_item(entry: Entry, index: int, node: Node) -> Mapping[str, Any] | None:
    item = Entry(node, f"{entry.subject} do[{index}]", entry.problems)
    item.refuse_unknown(_DOING)
    return _read_doing(item) if isinstance(node.value, dict) else None


def _read_doing(entry: Entry) -> Mapping[str, Any] | None:
    action_type = _read_word(entry, "action_type", ACTION_TYPES)
    if action_type == "run_commands":
        _refuse_fields(
            entry, _NODE_FIELDS, "For action_type 'run_commands', only 'commands' field is allowed"
        )
        return {"action_type": action_type, "commands": _read_commands(entry)}
    if action_type == "schedule_nodes":
        allowed = (
            "Unsupported field 'commands' for action_type 'schedule_nodes'. Allowed fields:"
            f" {', '.join(_NODE_FIELDS)}"
        )
        _refuse_fields(entry, _RUN_FIELDS, allowed)
        return {"action_type": action_type, **_read_nodes(entry)}
    return None


def _refuse_fields(entry: Entry, fields: tuple[str, ...], words: str) -> None:
    for key in fields:
        if entry.get(key) is not None:
            entry.problems.error(entry.at(key), "forbidden-field", f"{entry.subject}: {words}")


def _read_commands(entry: Entry) -> list[str]:
    if entry.get("commands") is None:
        message = f"{entry.subject}: run_commands action requires 'commands' field"
        entry.problems.error(entry.node.place, "missing-field", message)
        return []
    nodes = entry.items("commands")
    if not nodes and isinstance(entry.pairs["commands"].value, tuple):
        entry.problems.error(
            entry.at("commands"), "commands", f"{entry.subject}: 'commands' array cannot be empty"
        )
    for index, node in enumerate(nodes):
        if not isinstance(node.value, str) or not node.value.strip():
            message = f"{entry.subject}: 'commands[{index}]' must be a string with a command"
            entry.problems.error(node.place, "commands", message)
    return [node.text for node in nodes]


def _read_nodes(entry: Entry) -> dict[str, Any]:
    for key in ("scheduler", "scheduler_type"):
        if entry.get(key) is None:
            message = f"{entry.subject}: schedule_nodes action requires '{key}' field"
            entry.problems.error(entry.node.place, "missing-field", message)
    kind = entry.text("scheduler_type")
    if kind not in (None, "slurm"):
        message = f"{entry.subject} has scheduler_type '{shorten(kind)}', but only 'slurm' is known"
        entry.problems.error(entry.at("scheduler_type"), "scheduler-type", message)
    return {
        "scheduler": entry.text("scheduler"),
        "scheduler_type": "slurm",
        "num_allocations": entry.whole("num_allocations", 1, 10_000) or 1,
        "start_one_worker_per_node": entry.flag("start_one_worker_per_node"),
        "max_parallel_jobs": entry.whole("max_parallel_jobs", 1, 10_000),
    }


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Any:
    """The compiled pattern; raises AuthorError with the reason when it is invalid."""
    if len(pattern) > _LONGEST_PATTERN:
        raise AuthorError(f"it is longer than {_LONGEST_PATTERN} characters")
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
    """Whether trying all patterns on all steps is cheap enough for a report to the author."""
    patterns = sum(len(action.job_name_regexes) for action in task.workflow_actions)
    return patterns * len(task.flow) <= _MOST_MATCHES


def is_endless(actions: Iterable[WorkflowAction], steps: int, loops: int = 0) -> bool:
    """Whether finding what these actions select would take too long."""
    patterns = {
        (pattern, action.match) for action in actions for pattern in action.job_name_regexes
    }
    return len(patterns) * (steps + _LOOP_COUNTS * loops) > _MOST_TRIALS


def asks_in_vain(action: WorkflowAction) -> bool:
    """Whether the action requests nodes after its job has ended."""
    return asks_for_nodes(action) and action.trigger_type == "on_workflow_complete"


def asks_for_nodes(action: WorkflowAction) -> bool:
    return any(doing["action_type"] == "schedule_nodes" for doing in action.do)


def misplaced(action: WorkflowAction, actions: Iterable[WorkflowAction]) -> str | None:
    """What is wrong with where the action is to run; `actions` are all of the task's."""
    if action.where is None:
        return None
    if asks_for_nodes(action):
        return (
            "'where' has no effect on an action that requests nodes: a worker with the tag slurm"
            " runs it"
        )
    if action.where == "nodes" and not any(map(asks_for_nodes, actions)):
        return "'where: nodes' has no effect: no workflow action of this task requests nodes"
    return None


def select_steps(action: WorkflowAction, names: Iterable[str]) -> tuple[str, ...]:
    """The `names` that the action selects, by name or pattern, in their order."""
    names = tuple(names)
    chosen = set(action.jobs)
    for pattern in action.job_name_regexes:
        chosen.update(match_names(pattern, names, action.match))
    return tuple(name for name in names if name in chosen)
