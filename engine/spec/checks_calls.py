"""Rules about what steps and hooks give to what they call, about numbers that may be meant as text,
and about keys without effect."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine import templating
from engine.errors import InputError
from engine.orders import INPUT_FILE, INPUTS_FILE
from engine.plain import shorten
from engine.spec import inputs
from engine.spec.checks_reads import reads_input
from engine.spec.draft import Draft, Node, step_subject, task_subject
from engine.spec.fields import HOOK_LISTS, PRIMITIVES
from engine.spec.model import Action, InputField, Place, Problem, Retry, Step
from engine.spec.problems import did_you_mean, error, warning
from engine.spec.tasks import finder, items_of, wanted_by
from engine.spec.written import looks_like_text

_ADDRESSABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_MOST_HINTS = 100
_MOST_NUMBERS = 100
_ONE_ATTEMPT = "retry has no effect: max_attempts: 1 is the first attempt alone"


@dataclass(frozen=True, slots=True)
class _Call:
    """A step or a hook that calls an action with some input."""

    subject: str
    action: Action
    name: str  # of the action
    input: Mapping[str, Any]
    around: Mapping[str, InputField]  # fills declared inputs that the call does not give
    at: Callable[..., Place]
    is_inline: bool = False


def _calls(draft: Draft) -> Iterator[_Call]:
    actions = draft.workspace.actions
    for task_name, task in draft.workspace.tasks.items():
        for name, step in task.flow.items():
            action = actions.get(step.action)
            if action is not None:
                at = partial(draft.in_step, task_name, name)
                subject = step_subject(task_name, name)
                is_inline = step.action in draft.inline
                yield _Call(subject, action, step.action, step.input, task.input, at, is_inline)
        for event in HOOK_LISTS:
            for index, hook in enumerate(getattr(task.hooks, event)):
                action = actions.get(hook.action)
                if action is not None:
                    at = partial(draft.at, "tasks", task_name, event, index)
                    subject = f"{task_subject(task_name)} {event}[{index}]"
                    yield _Call(subject, action, hook.action, hook.input, {}, at)
    for event in HOOK_LISTS:
        for index, hook in enumerate(getattr(draft.workspace.hooks, event)):
            action = actions.get(hook.action)
            if action is not None:
                at = partial(_place, hook.place)
                yield _Call(f"Workspace {event}[{index}]", action, hook.action, hook.input, {}, at)


def _place(place: Place, *_: str | int) -> Place:
    return place


def check_calls(draft: Draft) -> Iterator[Problem]:
    """A required input is given, what is given is known, and a literal fits its field."""
    if not draft.is_complete:
        return
    hints = _MOST_HINTS
    for call in _calls(draft):
        if call.action.type in ("approval", "agent"):  # people fill the form of an approval
            continue
        if not call.input and not call.action.input and not call.action.task:
            continue
        task = draft.workspace.tasks.get(call.action.task or "")
        if call.action.type == "task" and (
            task is None or not draft.has("tasks", call.action.task or "")
        ):
            continue
        if task is not None and draft.node("tasks", call.action.task or "", "flow") is None:
            continue  # a Torc file
        fields = task.input if task is not None else call.action.input
        around = {} if task is not None else call.around
        yield from _check_required(call, fields, around)
        for problem in (*_check_unknown(call, fields, hints), *_check_literals(call, fields)):
            hints -= 1
            yield problem


def _callee(call: _Call) -> str:
    kind, name = ("task", call.action.task) if call.action.task else ("action", call.name)
    return "its action" if call.is_inline and kind == "action" else f"{kind} '{shorten(name)}'"


def _check_required(
    call: _Call, fields: Mapping[str, InputField], around: Mapping[str, InputField]
) -> Iterator[Problem]:
    for key, field in fields.items():
        if field.required and not field.has_default and call.input.get(key) is None:
            if key in around:
                continue
            wanted = f"input '{shorten(key)}', which {_callee(call)} requires"
            message = f"{call.subject} does not pass {wanted}"
            yield warning(call.at("input"), "missing-input", message)


def _check_unknown(call: _Call, fields: Mapping[str, InputField], hints: int) -> Iterator[Problem]:
    is_task = call.action.type == "task"
    for key in call.input:
        if key in fields or (not is_task and (call.is_inline or reads_input(call.action, key))):
            continue
        hint = did_you_mean(key, fields) if hints > 0 else ""
        message = (
            f"{call.subject} passes input '{shorten(key)}', which {_callee(call)} does not declare"
        )
        if is_task:
            yield warning(call.at("input", key), "unknown-input", message + hint)
        elif fields or not call.action.source:
            yield warning(call.at("input", key), "unknown-input", f"{message} or read{hint}")


def _check_literals(call: _Call, fields: Mapping[str, InputField]) -> Iterator[Problem]:
    for key, value in call.input.items():
        field = fields.get(key)
        if field is None or field.type not in PRIMITIVES or value is None or _has_template(value):
            continue
        try:
            inputs.resolve({key: field}, {key: value}, {})
        except InputError as wrong:
            yield error(
                call.at("input", key), "input-value", f"{call.subject}: {wrong.problems[key]}"
            )


def _has_template(value: Any) -> bool:
    if isinstance(value, dict | list | tuple):
        return any(map(_has_template, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and "{" in value


def check_input_file(draft: Draft) -> Iterator[Problem]:
    """An input that takes the usual variable with the path of the file of all inputs."""
    message = (
        f"input '{{}}' sets {INPUT_FILE}, which otherwise holds the path of the file"
        f" with all inputs: read that path from {INPUTS_FILE}"
    )
    for name, task in draft.workspace.tasks.items():
        for key in task.input:
            if inputs.variable_of(key) == INPUT_FILE:
                subject = f"{task_subject(name)} {message.format(shorten(key))}"
                yield warning(draft.at("tasks", name, "input", key), "input-variable", subject)
    for call in _calls(draft):
        for key in call.input:
            if inputs.variable_of(key) == INPUT_FILE and key not in call.action.input:
                subject = f"{call.subject} {message.format(shorten(key))}"
                yield warning(call.at("input", key), "input-variable", subject)
    for name, subject, action in draft.actions():
        for key in action.input:
            if inputs.variable_of(key) == INPUT_FILE:
                place = draft.in_action(name, "input", key)
                yield warning(place, "input-variable", f"{subject} {message.format(shorten(key))}")


def check_addresses(draft: Draft) -> Iterator[Problem]:
    """A step whose name no template can write: its output cannot be read."""
    for task_name, task in draft.workspace.tasks.items():
        for name in task.flow:
            is_refused = bool(set("[]/") & set(name)) or not name.strip()
            if not is_refused and not _ADDRESSABLE.fullmatch(templating.context_name(name)):
                message = (
                    f"{step_subject(task_name, name)}: no template can read its output by this"
                    " name; use letters, digits, '-' and '_', and begin with a letter"
                )
                yield warning(draft.in_step(task_name, name), "name", message)


def check_without_effect(draft: Draft) -> Iterator[Problem]:
    """Keys that are accepted and change nothing, or something else than they seem to."""
    for name, task in draft.workspace.tasks.items():
        if task.mode == "local":
            message = f"{task_subject(name)} mode: local has no effect; all steps run on workers"
            yield warning(draft.at("tasks", name, "mode"), "no-effect", message)
    for name, subject, action in draft.actions():
        if action.type == "task" and action.input:
            message = (
                f"{subject} is type 'task': its own 'input' has no effect; task"
                f" '{shorten(action.task)}' declares the fields"
            )
            yield warning(draft.in_action(name, "input"), "no-effect", message)
        for key, why in _idle_keys(action):
            yield warning(draft.in_action(name, key), "no-effect", f"{subject} {why}")
    yield from _idle_steps(draft)


def _idle_keys(action: Action) -> Iterator[tuple[str, str]]:
    if action.type == "script" and action.runner == "local" and "cpu" in action.resources:
        yield (
            "resources",
            "resources.cpu has no effect: it limits containers; num_cpus is what workers pack by",
        )
    if action.cmd is not None and action.command:
        yield "cmd", "cmd has no effect: command takes precedence"
    if _is_idle(action.retry):
        yield "retry", _ONE_ATTEMPT


def _is_idle(retry: Retry | None) -> bool:
    return retry is not None and retry.max_attempts == 1 and not retry.rules


def _idle_steps(draft: Draft) -> Iterator[Problem]:
    for task_name, task in draft.workspace.tasks.items():
        for name, step in task.flow.items():
            subject, at = step_subject(task_name, name), partial(draft.in_step, task_name, name)
            if step.when is not None and not step.when.strip():
                message = f"{subject} when is empty, which means no: the step is always skipped"
                yield warning(at("when"), "no-effect", message)
            if step.timeout and task.timeout and step.timeout.seconds > task.timeout.seconds:
                message = (
                    f"{subject} timeout after {step.timeout.seconds:g}s has no effect: the whole"
                    f" job times out after {task.timeout.seconds:g}s"
                )
                yield warning(at("timeout"), "no-effect", message)
            if _is_idle(step.retry):
                yield warning(at("retry"), "no-effect", f"{subject} {_ONE_ATTEMPT}")
            if isinstance(step.for_each, str) and not _may_be_list(step.for_each):
                message = (
                    f"{subject} for_each '{shorten(step.for_each)}' is no list: write a list, or a"
                    " template in {{ }}"
                )
                yield error(at("for_each"), "for-each", message)
            elif step.for_each == ():
                message = f"{subject} for_each is an empty list: the step is always skipped"
                yield warning(at("for_each"), "for-each", message)


def _may_be_list(text: str) -> bool:
    if templating.has_tags(text):
        return True
    try:
        return isinstance(json.loads(text), list)
    except ValueError:
        return False


def check_doubtful_numbers(draft: Draft) -> Iterator[Problem]:
    """Numbers that may be meant as text, where nothing says what is wanted."""
    left = _MOST_NUMBERS
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
    find, subject = finder(draft, "tasks", task, "flow", name), step_subject(task, name)
    for given in step.input:
        if given not in fields:
            yield f"{subject} input '{shorten(given)}'", find("input", given), False
    if isinstance(step.for_each, tuple) and not any(
        isinstance(item, str) and item != node.plain()
        for item, node in zip(step.for_each, items_of(find("for_each")), strict=False)
    ):
        yield f"{subject} for_each", find("for_each"), False


CHECKS = (
    check_doubtful_numbers,
    check_calls,
    check_input_file,
    check_addresses,
    check_without_effect,
)
