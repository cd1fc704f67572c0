"""Values as the fields want them: where a step, a hook or a trigger gives `version: 3.10` to a text
field, the text as typed counts. Where nothing says what is wanted, a number that looks like text is
reported."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from engine.spec.draft import Draft, Node, step_subject, task_subject
from engine.spec.entry import Entry, as_declared
from engine.spec.fields import HOOK_LISTS
from engine.spec.model import Action, Hooks, InputField, Problem, Step, Task, Workspace
from engine.spec.problems import shorten, warning
from engine.spec.written import looks_like_text

_ITEM = re.compile(r"\s*\{\{-?\s*each\.item\s*-?\}\}\s*")
_TEXTS = ("string", "text")
_MOST_WARNINGS = 100
Find = Callable[..., Node | None]


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
            trigger.input, task.input if task else {}, _finder(draft, "triggers", name, "input")
        )
        triggers[name] = replace(trigger, input=given)
    return replace(workspace, tasks=tasks, triggers=triggers, hooks=_settle_tops(draft, tops))


def _settle_tops(draft: Draft, tops: Sequence[Entry]) -> Hooks:
    actions, hooks = draft.workspace.actions, draft.workspace.hooks
    settled: dict[str, Any] = {}
    for event in HOOK_LISTS:
        items = [item for top in tops for item in _items(top.pairs.get(event))]
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


def _finder(draft: Draft, section: str, name: str, *start: str | int) -> Find:
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
                    _finder(draft, "tasks", name, event, index, "input"),
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
    find = _finder(draft, "tasks", task, "flow", name)
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


def check_doubtful_numbers(draft: Draft) -> Iterator[Problem]:
    """Numbers that may be meant as text, where nothing says what is wanted."""
    left = _MOST_WARNINGS
    for subject, node, is_secret in _untyped(draft):
        for number in _doubtful(node):
            left -= 1
            if left < 0:
                return
            message = f"{subject} holds a number that may be meant as text: put it in quotes"
            if not is_secret:
                shown = f"{shorten(number.text, 30)}' as the number {number.value}"
                message = f"{subject} reads '{shown}; put it in quotes if it is text"
            yield warning(number.place, "number", message)


def _doubtful(node: Node | None) -> Iterator[Node]:
    value = node.value if node else None
    if isinstance(value, float) and node is not None and looks_like_text(node.text):
        yield node
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _doubtful(inner)
    elif isinstance(value, tuple):
        for inner in value:
            yield from _doubtful(inner)


def _untyped(draft: Draft) -> Iterator[tuple[str, Node | None, bool]]:
    """(subject, value, whether it is secret) of every value without a declared type."""
    workspace = draft.workspace
    for name, task in workspace.tasks.items():
        for key, step in task.flow.items():
            yield from _untyped_in_step(draft, name, key, step)
        for event in HOOK_LISTS:
            for index, hook in enumerate(getattr(task.hooks, event)):
                fields = wanted_by(workspace, workspace.actions.get(hook.action))
                for given in hook.input.keys() - fields.keys():
                    node = draft.node("tasks", name, event, index, "input", given)
                    yield f"{task_subject(name)} {event}[{index}] input '{given}'", node, False
    for name, subject, action in draft.actions():
        if action.manifest:
            yield f"{subject} manifest", draft.action_node(name, "manifest"), False
    for name in workspace.secrets:
        yield f"Secret '{shorten(name)}'", draft.node("secrets", name), True
    for name, values in workspace.connections.items():
        described = workspace.connection_types.get(str(values.get("type")), {})
        for key in values.keys() - described.keys():
            yield f"Connection '{shorten(name)}'", draft.node("connections", name, key), True


def _untyped_in_step(
    draft: Draft, task: str, name: str, step: Step
) -> Iterator[tuple[str, Node | None, bool]]:
    if not step.input and not isinstance(step.for_each, tuple):
        return
    action = draft.workspace.actions.get(step.action)
    fields = wanted_by(draft.workspace, action)
    find, subject = _finder(draft, "tasks", task, "flow", name), step_subject(task, name)
    for given in step.input:
        if given not in fields:
            yield f"{subject} input '{shorten(given)}'", find("input", given), False
    if isinstance(step.for_each, tuple) and not any(
        isinstance(item, str) and item != node.plain()
        for item, node in zip(step.for_each, _items(find("for_each")), strict=False)
    ):
        yield f"{subject} for_each", find("for_each"), False


def _items(node: Node | None) -> tuple[Node, ...]:
    return node.value if node is not None and isinstance(node.value, tuple) else ()


CHECKS = (check_doubtful_numbers,)
