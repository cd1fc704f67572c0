"""What workflow actions watch, hold back and receive: pure decisions over a task and the states of
its steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from engine import dag
from engine.errors import AuthorError
from engine.spec.model import Retry, Step, Task, WorkflowAction
from engine.spec.slurm import (
    JOB_TRIGGERS,
    WORKER_TRIGGERS,
    asks_for_nodes,
    compile_pattern,
    select_steps,
)
from engine.spec.tags import NODE, SLURM_PREFIX, SUBMITS, schedulers_of

MOST_INSTANCES = 10_000  # the largest size of a loop
STARTS = "on_workflow_start"
ENDS = "on_workflow_complete"
READY = "on_jobs_ready"
# Slurm may fail briefly; nodes already granted are not requested again.
SUBMISSION_RETRY = Retry(max_attempts=3, delay_s=5.0)
NO_NODES = "the job is over: it no longer needs nodes"


@dataclass(frozen=True, slots=True)
class Watched:
    """One action of a task: the steps that it selects, the loops that may add some, and the steps
    that its barrier holds back."""

    index: int
    action: WorkflowAction
    selected: tuple[str, ...] = ()
    loops: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    node_tag: str = ""  # of workers on the job's nodes, if an action of the task requests some

    @property
    def label(self) -> str:
        return label_of(self.action, self.index)

    def selects(self, name: str) -> bool:
        """Whether the action selects an instance of a loop by its name."""
        return bool(select_steps(self.action, (name,)))


@dataclass(frozen=True, slots=True)
class Watch:
    """All actions of a task, and the names of the steps that can affect them."""

    actions: tuple[Watched, ...]
    names: frozenset[str]

    def concerns(self, moved: Iterable[str]) -> bool:
        return any(name in self.names or name.partition("[")[0] in self.names for name in moved)


def label_of(action: WorkflowAction, index: int) -> str:
    """The action's display name."""
    return action.name or f"workflow_actions[{index}]"


def progress_of(trigger_type: str, reached: int, total: int) -> str:
    """The progress of the watched steps, such as `3 of 7 ready`; empty for a trigger that watches
    none."""
    if trigger_type not in JOB_TRIGGERS:
        return ""
    return f"{reached} of {total} {'ready' if trigger_type == READY else 'complete'}"


def watch_of(task: Task) -> Watch:
    asked = {name for action in task.workflow_actions for name in schedulers_of(action)}
    node_tag = "" if not asked else NODE if len(asked) > 1 else f"{SLURM_PREFIX}{min(asked)}"
    watched = tuple(
        replace(_watched(index, action, task.flow), node_tag=node_tag)
        for index, action in enumerate(task.workflow_actions)
    )
    names: set[str] = set()
    for one in watched:
        names |= {*one.selected, *one.loops}
        for name in one.held:  # a held step is ready once all steps before it have ended
            names.update(task.flow[name].depends_on)
    return Watch(watched, frozenset(names))


def _watched(index: int, action: WorkflowAction, flow: Mapping[str, Step]) -> Watched:
    if action.trigger_type not in JOB_TRIGGERS:
        held = tuple(name for name, step in flow.items() if not step.depends_on)
        return Watched(
            index, action, held=held if action.barrier and action.trigger_type == STARTS else ()
        )
    selected = select_steps(action, flow)
    loops = tuple(
        name for name, step in flow.items() if step.for_each is not None and _may_add(action, name)
    )
    if not action.barrier:
        return Watched(index, action, selected, loops)
    if action.trigger_type == READY:
        named = {job.partition("[")[0] for job in action.jobs}
        return Watched(
            index,
            action,
            selected,
            loops,
            tuple(n for n in flow if n in {*selected, *loops, *named}),
        )
    chosen = {*selected, *loops}
    behind = tuple(
        n for n, step in flow.items() if n not in chosen and not chosen.isdisjoint(step.depends_on)
    )
    return Watched(index, action, selected, loops, behind)


@lru_cache(maxsize=4096)
def _may_match(pattern: str, match: Literal["full", "search"], loop: str) -> bool:
    names = _names_in(loop)
    if not _may_match_a_line(pattern, match, names):
        return False
    compiled = compile_pattern(pattern)
    find = compiled.fullmatch if match == "full" else compiled.search
    return any(find(name) for name in names.split("\n"))


@lru_cache(maxsize=64)
def _names_in(loop: str) -> str:
    """The possible names of the loop's instances, one per line."""
    return "\n".join(f"{loop}[{index}]" for index in range(MOST_INSTANCES))


def _may_match_a_line(pattern: str, match: Literal["full", "search"], lines: str) -> bool:
    """False only when the pattern matches no line: one search in the whole text is faster than one
    per line."""
    if "\\" in pattern:  # `\A` and the like ignore lines
        return True
    try:
        whole = compile_pattern(f"(?m:^(?:{pattern})$)" if match == "full" else f"(?m:{pattern})")
    except AuthorError:  # too long with the added parts, or it sets its own flags
        return True
    return whole.search(lines) is not None


def _may_add(action: WorkflowAction, loop: str) -> bool:
    """Whether the action could select an instance of the loop."""
    if any(job.startswith(f"{loop}[") for job in action.jobs):
        return True
    return any(_may_match(pattern, action.match, loop) for pattern in action.job_name_regexes)


def waits_for_action(task: Task, asking: Watched, one: Watched) -> bool:
    """Whether `asking` can only be set off after `one` has ended: it needs it, or waits for steps
    that the barrier of `one` holds back."""
    by_name = {action.name: action for action in task.workflow_actions if action.name}
    needed, left = set[str](), list(asking.action.needs)
    while left:
        name = left.pop()
        if name not in needed and name in by_name:
            needed.add(name)
            left += by_name[name].needs
    if one.action.name in needed:
        return True
    if asking.action.trigger_type == "on_worker_start":
        return bool(one.held)
    graph = {name: step.depends_on for name, step in task.flow.items()}
    awaited = dag.closure(graph, [*asking.selected, *asking.loops])
    return not awaited.isdisjoint(one.held)


def is_for_nodes(one: Watched) -> bool:
    """Whether only workers on nodes may run the action's commands."""
    return one.action.where == "nodes" and bool(one.node_tag) and not asks_for_nodes(one.action)


def tags_of(action: WorkflowAction) -> tuple[str, ...]:
    """The tags that a worker needs for the whole action."""
    by_type = {"run_commands": "script", "schedule_nodes": SUBMITS}
    return tuple(sorted({by_type[doing["action_type"]] for doing in action.do}))


def only_asks(do: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the action only requests nodes."""
    return all(doing["action_type"] == "schedule_nodes" for doing in do)


def retry_of(action: WorkflowAction) -> Retry | None:
    if action.retry is not None:
        return action.retry
    return SUBMISSION_RETRY if only_asks(action.do) else None


def is_by_session(action: WorkflowAction) -> bool:
    """Whether every worker session runs the action itself."""
    return action.persistent


def is_of_sessions(action: WorkflowAction) -> bool:
    """Whether a worker's coming or leaving sets the action off."""
    return action.trigger_type in WORKER_TRIGGERS or (
        action.persistent and action.trigger_type == STARTS
    )


def is_at_entry(action: WorkflowAction) -> bool:
    """For those: whether the worker runs it before its first step, not when it leaves."""
    return action.trigger_type != "on_worker_complete"


def outcome_of(trigger_type: str, statuses: Iterable[str], job_status: str = "") -> str:
    """The value of STROEM_OUTCOME: how the watched steps ended."""
    if trigger_type == ENDS:
        return job_status
    if trigger_type == READY:
        return "ready"
    if trigger_type not in JOB_TRIGGERS:
        return "started" if trigger_type != "on_worker_complete" else "leaving"
    found = set(statuses)
    for word in ("failed", "cancelled"):
        if word in found:
            return word
    return "skipped" if found == {"skipped"} else "completed"


@dataclass(frozen=True, slots=True)
class Needs:
    """Whether an action's needs are met: it may run, must wait, or never can (`reason` says
    why)."""

    verdict: Literal["go", "wait", "never"]
    reason: str = ""


def needs_met(action: WorkflowAction, states: Mapping[str, str]) -> Needs:
    """`states`: those of the job's other actions in this generation, by name."""
    for name in action.needs:
        state = states.get(name, "skipped")
        if state in ("failed", "skipped", "cancelled", "superseded"):
            ended = {"superseded": "was replaced"}.get(
                state, f"{state}" if state == "failed" else f"was {state}"
            )
            return Needs("never", f"it needs '{name}', which {ended}")
    if any(states[name] != "succeeded" for name in action.needs):
        return Needs("wait")
    return Needs("go")


@dataclass(frozen=True, slots=True)
class Again:
    """Whether a restart re-arms an action; if not, `reason` says why."""

    is_armed: bool
    reason: str = ""


def rearms(action: WorkflowAction, *, has_fired: bool, runs_again: bool) -> Again:
    """`has_fired` in an earlier generation; `runs_again`: one of the selected steps does in this
    one."""
    if not has_fired or action.rerun == "always":
        return Again(True)
    if action.rerun == "never":
        return Again(False, "it has run before, and `rerun: never` keeps it from running again")
    if action.trigger_type in JOB_TRIGGERS and not runs_again:
        return Again(False, "none of its steps runs again")
    return Again(True)


def environment(
    *, job_id: str, trigger: str, label: str, outcome: str, torc: Mapping[str, str]
) -> dict[str, str]:
    """The environment of an action's commands, apart from the output directory."""
    names = {
        "STROEM_JOB_ID": job_id,
        "STROEM_TRIGGER": trigger,
        "STROEM_ACTION": label,
        "STROEM_OUTCOME": outcome,
    }
    aliases = {
        "TORC_WORKFLOW_ID": job_id,
        "TORC_TRIGGER": trigger,
        "TORC_ACTION": label,
        "TORC_OUTCOME": outcome,
    }
    return {**names, **aliases, **torc}
