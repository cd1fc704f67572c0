"""Reads a task with its steps and hooks from YAML; inline actions become separate actions.

Once all fields are known, the values that steps, hooks and triggers give are settled as the fields
want them: where they give `version: 3.10` to a text field, the text as typed counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, cast, get_args

from engine.plain import shorten
from engine.spec.access import read_access
from engine.spec.actions import read_action
from engine.spec.agents import read_task_limits
from engine.spec.artifacts import read_artifacts
from engine.spec.draft import Draft, Node
from engine.spec.entry import (
    Entry,
    as_declared,
    looks_like_field,
    read_inputs,
    read_retry,
    read_umask,
    read_values,
)
from engine.spec.fields import ACTION_FIELDS, HOOK_LISTS, STATE_FIELDS, STEP_FIELDS, TASK_FIELDS
from engine.spec.model import (
    Action,
    Hook,
    Hooks,
    InputField,
    OnConflict,
    OnWorkerLost,
    Place,
    StateRule,
    Step,
    Task,
    Workspace,
)
from engine.spec.problems import did_you_mean
from engine.spec.schedulers import read_schedulers
from engine.spec.slurm import read_workflow_actions

MOST_ITEMS = 10_000
MOST_PRIORITY = 1000
_ITEM = re.compile(r"\s*\{\{-?\s*each\.item\s*-?\}\}\s*")
_TEXTS = ("string", "text")
Find = Callable[..., Node | None]


@dataclass(slots=True)
class TaskReading:
    """A task and the inline actions of its flow."""

    task: Task
    inline: dict[str, Action] = field(default_factory=dict)
    # names of inline actions whose type is unknown
    unreadable: set[str] = field(default_factory=set)
    broken_steps: set[str] = field(default_factory=set)  # steps that exist but could not be read


def read_task(name: str, entry: Entry, place: Place, folder: str | None) -> TaskReading:
    entry.refuse_unknown(TASK_FIELDS)
    reading = TaskReading(Task(flow={}))
    flow = _read_flow(name, entry, place, reading)
    reading.task = Task(
        flow=flow,
        title=entry.text("name"),
        description=entry.text("description"),
        folder=_read_folder(entry) or folder,
        mode=cast(
            Literal["distributed", "local"],
            entry.choice("mode", ("distributed", "local"), "distributed"),
        ),
        input=read_inputs(entry),
        timeout=entry.duration("timeout"),
        retry=read_retry(entry),
        hooks=read_hooks(entry, entry.subject),
        priority=entry.whole("priority", -MOST_PRIORITY, MOST_PRIORITY) or 0,
        max_concurrent_jobs=entry.whole("max_concurrent_jobs", 1, 100_000),
        limits=read_task_limits(entry) if entry.get("limits") is not None else None,
        manual=entry.flag("manual", default=True),
        workflow_actions=(
            read_workflow_actions(entry) if entry.get("workflow_actions") is not None else ()
        ),
        slurm_schedulers=(
            read_schedulers(entry) if entry.get("slurm_schedulers") is not None else {}
        ),
        mcp=entry.flag("mcp"),
        state=_read_state(entry),
        access=read_access(entry) if entry.get("access") else {},
        place=place,
    )
    return reading


def _read_state(entry: Entry) -> StateRule | None:
    node = entry.mapping("state")
    if node is None:
        return None
    rule = Entry(node, f"{entry.subject} state", entry.problems)
    rule.refuse_unknown(STATE_FIELDS)
    return StateRule(cast(OnConflict, rule.choice("on_conflict", get_args(OnConflict), "fail")))


def _read_folder(entry: Entry) -> str | None:
    folder = entry.text("folder")
    if folder is None:
        return None
    parts = folder.strip("/").split("/")
    if any(part in ("", ".", "..") or not part.isprintable() for part in parts):
        entry.complain(
            "folder", f"must be a path such as ops/nightly, not '{shorten(folder)}'", "folder"
        )
        return None
    return "/".join(parts)


def _read_flow(task: str, entry: Entry, place: Place, reading: TaskReading) -> dict[str, Step]:
    if entry.get("flow") is None:
        is_misspelt = any(
            did_you_mean(key, TASK_FIELDS).endswith("'flow'?)")
            for key in entry.pairs
            if key not in TASK_FIELDS
        )
        if isinstance(entry.node.value, dict) and not is_misspelt:
            entry.problems.error(place, "missing-field", f"{entry.subject} is missing 'flow'")
        return {}
    node = entry.get("flow")
    if node is None or not isinstance(node.value, dict):
        kind = node.kind if node else "nothing"
        entry.complain("flow", f"must be a mapping of step names to steps, not {kind}")
        return {}
    if not node.value:
        entry.problems.error(
            entry.at("flow"), "flow", f"{entry.subject} has an empty 'flow': it needs a step"
        )
    steps: dict[str, Step] = {}
    for name, inner in node.value.items():
        subject = f"{entry.subject} step '{shorten(name)}'"
        if isinstance(inner.value, dict):
            step = _read_step(
                task, name, Entry(inner, subject, entry.problems), node.keys[name], reading
            )
        else:
            step = None
            message = f"{subject}: flow step must be a mapping, not {inner.kind}"
            entry.problems.error(node.keys[name], "step", message)
        if step:
            steps[name] = step
        else:
            reading.broken_steps.add(name)
    return steps


def _read_step(
    task: str, name: str, entry: Entry, place: Place, reading: TaskReading
) -> Step | None:
    action, is_inline = entry.text("action"), entry.get("type") is not None
    if is_inline and entry.get("action") is not None:
        message = "flow step cannot have both 'action' and 'type' — use one or the other"
        entry.problems.error(entry.at("type"), "step", f"{entry.subject}: {message}")
        return None
    values: dict[str, Any]
    if is_inline:
        action = f"_inline:{task}:{name}"
        values = _read_inline(action, entry, place, reading)
    else:
        values = read_values(entry)
        if entry.get("action") is None:
            _refuse_without_action(entry, place)
        else:
            entry.refuse_unknown(STEP_FIELDS)
    if action is None:
        return None
    lost = (
        entry.choice("on_worker_lost", ("fail", "retry"), "fail")
        if entry.get("on_worker_lost")
        else None
    )
    return Step(
        action=action,
        title=entry.text("name"),
        description=entry.text("description"),
        depends_on=tuple(dict.fromkeys(entry.texts("depends_on"))),
        input=values,
        when=entry.loose_text("when"),
        for_each=_read_for_each(entry),
        sequential=entry.flag("sequential"),
        max_parallel=entry.whole("max_parallel", 1, MOST_ITEMS),
        continue_on_failure=entry.flag("continue_on_failure"),
        timeout=entry.duration("timeout"),
        retry=read_retry(entry),
        tags=entry.texts("tags"),
        on_worker_lost=cast(OnWorkerLost | None, lost),
        scheduler=entry.text("scheduler"),
        priority=entry.whole("priority", -MOST_PRIORITY, MOST_PRIORITY) or 0,
        umask=read_umask(entry),
        artifacts=read_artifacts(entry) if entry.get("artifacts") is not None else None,
        place=place,
    )


def _refuse_without_action(entry: Entry, place: Place) -> None:
    message = "flow step must have either 'action' (reference) or 'type' (inline action)"
    of_action = [key for key in entry.pairs if key in ACTION_FIELDS and key not in STEP_FIELDS]
    if of_action:
        message += f"; '{of_action[0]}' needs 'type'"
    entry.problems.error(place, "step", f"{entry.subject}: {message}")
    entry.refuse_unknown((*STEP_FIELDS, *ACTION_FIELDS))


def _read_inline(action: str, entry: Entry, place: Place, reading: TaskReading) -> dict[str, Any]:
    """Read the action of an inline step; return the step's input values."""
    fields, values = _split_input(entry)
    pairs = {
        key: node for key, node in entry.pairs.items() if key not in STEP_FIELDS or key == "action"
    }
    if fields.value:
        pairs["input"] = fields
    generated = Node(pairs, entry.node.place, keys=entry.node.keys)
    found = read_action(
        Entry(generated, entry.subject, entry.problems), place, reserved_keys=STEP_FIELDS
    )
    if found:
        reading.inline[action] = found
    else:
        reading.unreadable.add(action)
    return values


def _split_input(entry: Entry) -> tuple[Node, dict[str, Any]]:
    """An inline step's `input`: the declared fields, and the values."""
    node = entry.mapping("input")
    if node is None or not isinstance(node.value, dict):
        return Node({}, entry.node.place), {}
    fields = {name: inner for name, inner in node.value.items() if looks_like_field(inner)}
    values = {name: inner.plain() for name, inner in node.value.items() if name not in fields}
    return Node(fields, node.place, keys=node.keys), values


def _read_for_each(entry: Entry) -> str | tuple[Any, ...] | None:
    node = entry.get("for_each")
    if node is None:
        return None
    if isinstance(node.value, str):
        return node.value
    if isinstance(node.value, tuple):
        if len(node.value) > MOST_ITEMS:
            message = (
                f"{entry.subject} for_each literal array has {len(node.value)} items (max"
                f" {MOST_ITEMS})"
            )
            entry.problems.error(entry.at("for_each"), "for-each", message)
        return tuple(item.plain() for item in node.value)
    message = f"{entry.subject} for_each must be a string (Tera template) or array, got {node.kind}"
    entry.problems.error(entry.at("for_each"), "for-each", message)
    return None


def read_hooks(entry: Entry, owner: str) -> Hooks:
    return Hooks(**{event: tuple(_read_hook_list(entry, owner, event)) for event in HOOK_LISTS})


def _read_hook_list(entry: Entry, owner: str, event: str) -> list[Hook]:
    found: list[Hook] = []
    given = entry.get(event)
    if given is not None and given.value == () and owner != "Workspace":
        message = (
            f"{owner} {event} is empty and has no effect; the workspace's list applies, if any"
        )
        entry.problems.warning(entry.at(event), "hooks", message)
    for index, node in enumerate(entry.items(event)):
        hook = Entry(node, f"{owner} {event}[{index}]", entry.problems)
        hook.refuse_unknown(("action", "input"))
        action = hook.text("action")
        hook.require("action", node.place)
        hook.refuse_empty(("action",))
        # an unreadable hook keeps its index in the list, so that later messages count correctly
        found.append(Hook(action or "", read_values(hook), hook.at("action")))
    return found


# Given values


def wanted_by(workspace: Workspace, action: Action | None) -> Mapping[str, InputField]:
    """The fields that a call of `action` fills: its own, and those of the task it starts."""
    if action is None:
        return {}
    task = workspace.tasks.get(action.task or "")
    return {**task.input, **action.input} if task else action.input


def settle(draft: Draft, tops: Sequence[Entry]) -> Workspace:
    """The workspace with every given value in the form that its field wants. `tops` are the files
    with hooks of the workspace, in order."""
    workspace = draft.workspace
    tasks = {name: _settle_task(draft, name, task) for name, task in workspace.tasks.items()}
    triggers = {}
    for name, trigger in workspace.triggers.items():
        task = workspace.tasks.get(trigger.starts)
        given = _settle_values(
            trigger.input, task.input if task else {}, finder(draft, "triggers", name, "input")
        )
        triggers[name] = replace(trigger, input=given)
    return replace(workspace, tasks=tasks, triggers=triggers, hooks=_settle_tops(draft, tops))


def _settle_tops(draft: Draft, tops: Sequence[Entry]) -> Hooks:
    actions, hooks = draft.workspace.actions, draft.workspace.hooks
    settled: dict[str, Any] = {}
    for event in HOOK_LISTS:
        items = [item for top in tops for item in items_of(top.pairs.get(event))]
        settled[event] = tuple(
            replace(
                hook,
                input=_settle_values(
                    hook.input,
                    wanted_by(draft.workspace, actions.get(hook.action)),
                    partial(_below, item, "input"),
                ),
            )
            for hook, item in zip(getattr(hooks, event), items, strict=True)
        )
    return Hooks(**settled)


def _below(node: Node, *path: str) -> Node | None:
    for part in path:
        found = node.value.get(part) if isinstance(node.value, dict) else None
        if found is None:
            return None
        node = found
    return node


def finder(draft: Draft, section: str, name: str, *start: str | int) -> Find:
    return lambda *path: draft.node(section, name, *start, *path)


def _settle_task(draft: Draft, name: str, task: Task) -> Task:
    if draft.node("tasks", name, "flow") is None:
        return task
    flow = {key: _settle_step(draft, name, key, step) for key, step in task.flow.items()}
    hooks: dict[str, Any] = {}
    for event in HOOK_LISTS:
        hooks[event] = tuple(
            replace(
                hook,
                input=_settle_values(
                    hook.input,
                    wanted_by(draft.workspace, draft.workspace.actions.get(hook.action)),
                    finder(draft, "tasks", name, event, index, "input"),
                ),
            )
            for index, hook in enumerate(getattr(task.hooks, event))
        )
    return replace(task, flow=flow, hooks=Hooks(**hooks))


def _settle_step(draft: Draft, task: str, name: str, step: Step) -> Step:
    if not step.input:
        return step
    action = draft.workspace.actions.get(step.action)
    fields = wanted_by(draft.workspace, action)
    find = finder(draft, "tasks", task, "flow", name)
    given = _settle_values(step.input, fields, lambda key: find("input", key))
    items = find("for_each")
    if isinstance(step.for_each, tuple) and items and _are_texts(step, action, fields):
        return replace(step, input=given, for_each=tuple(items.as_text()))
    return step if given == step.input else replace(step, input=given)


def _settle_values(
    given: Mapping[str, Any], fields: Mapping[str, InputField], find: Find
) -> Mapping[str, Any]:
    settled = dict(given)
    for key in given.keys() & fields.keys():
        node = find(key)
        if node is not None:
            settled[key] = as_declared(node, fields[key].type)
    return settled


def _are_texts(step: Step, action: Action | None, fields: Mapping[str, InputField]) -> bool:
    """Whether the items of a loop only become the values of text fields."""
    reads = [key for key, value in step.input.items() if "each" in str(value)]
    return (
        bool(reads)
        and action is not None
        and all(
            _ITEM.fullmatch(str(step.input[key])) and key in fields and fields[key].type in _TEXTS
            for key in reads
        )
        and "each" not in (step.when or "")
        and "each." not in " ".join(_code(action))
    )


def _code(action: Action) -> Iterator[str]:
    yield from (action.script or "", action.cmd or "", action.message or "")
    yield from action.args
    yield from action.env.values()


def items_of(node: Node | None) -> tuple[Node, ...]:
    return node.value if node is not None and isinstance(node.value, tuple) else ()
