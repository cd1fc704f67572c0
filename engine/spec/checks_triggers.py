"""Rules about triggers: expressions, time zones, addresses, tasks, and what they give them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice, pairwise
from typing import Any
from zoneinfo import ZoneInfo

from engine import dag, templating
from engine.errors import AuthorError, InputError
from engine.events import ABOUT
from engine.plain import shorten
from engine.spec import cron, follows, inputs
from engine.spec.checks_exports import WORKSPACE
from engine.spec.draft import Draft
from engine.spec.fields import PRIMITIVES
from engine.spec.model import Problem, Task, Trigger
from engine.spec.problems import did_you_mean, error, warning
from engine.spec.triggers import TYPES

_MOST_HINTS = 100
_SAMPLE = 100  # times of a clock
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)
_SLUG = re.compile(r"[A-Za-z0-9_-]{1,200}")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")
_CLOCKS, _ENDS_OF_JOBS = "scheduler", "job"


def _triggers(draft: Draft, *types: str) -> Iterator[tuple[str, str, Trigger]]:
    for name, trigger in draft.workspace.triggers.items():
        if trigger.type in types:
            yield name, f"Trigger '{shorten(name)}'", trigger


def check_trigger_tasks(draft: Draft) -> Iterator[Problem]:
    if not draft.is_complete:
        return
    for name, subject, trigger in _triggers(draft, *TYPES):
        workspace, watched = trigger.watches or ("", None)
        is_source = trigger.type == "event_source"
        for path, kind, task in (
            (("task",), "consumer task" if is_source else "task", trigger.options["task"]),
            (("target_task",), "target task", trigger.options.get("target_task")),
            (("on_job", "task"), "task", None if workspace else watched),
        ):
            if not (task and task.strip()) or draft.has("tasks", task):
                continue
            hint = did_you_mean(task, draft.sections["tasks"])
            message = f"{subject} references non-existent {kind} '{shorten(task)}'{hint}"
            yield error(draft.at("triggers", name, *path), "missing-task", message)


def check_schedules(draft: Draft) -> Iterator[Problem]:
    for name, subject, trigger in _triggers(draft, _CLOCKS):
        expression = trigger.options["cron"]
        if expression is None:
            continue
        place = draft.at("triggers", name, "cron")
        try:
            times = islice(cron.times(expression, _ANY_TIME), _SAMPLE)
            debounce = trigger.options.get("debounce")
            if debounce and all(
                (later - sooner).total_seconds() <= debounce for sooner, later in pairwise(times)
            ):
                message = f"{subject} never starts a job: it fires before 'debounce' has passed"
                yield warning(draft.at("triggers", name, "debounce"), "debounce", message)
            if doubt := cron.doubt(expression):
                yield warning(place, "cron", f"{subject} cron: {doubt}, as its step is too long")
        except cron.NeverFires as wrong:
            yield warning(place, "cron", f"{subject} never fires: {wrong}")
        except AuthorError as wrong:
            message = f"{subject} has invalid cron expression '{shorten(expression)}': {wrong}"
            yield error(place, "cron", message)


def check_time_zones(draft: Draft) -> Iterator[Problem]:
    for name, subject, trigger in _triggers(draft, _CLOCKS):
        zone = trigger.options["timezone"]
        if not _is_zone(zone):
            message = (
                f"{subject} has invalid timezone '{shorten(zone)}' (must be IANA, e.g.,"
                " 'Europe/Copenhagen')"
            )
            yield error(draft.at("triggers", name, "timezone"), "timezone", message)


def _is_zone(name: str) -> bool:
    if len(name) > 64 or not _ZONE.fullmatch(name):
        return False
    try:
        ZoneInfo(name)
    except (
        LookupError,
        ValueError,
        OSError,
    ):  # unknown, malformed, or a directory of the zone tables
        return False
    return True


def check_webhooks(draft: Draft) -> Iterator[Problem]:
    """An address must be a part of a URL, and belong to one webhook of the workspace."""
    seen: dict[str, str] = {}
    for name, subject, trigger in _triggers(draft, "webhook"):
        address = trigger.options["name"]
        place = draft.at("triggers", name, "name")
        if address is None:
            continue
        if not address:
            yield error(place, "webhook", f"{subject} has empty webhook name")
        elif not _SLUG.fullmatch(address):
            message = (
                f"{subject} has invalid webhook name '{shorten(address)}' "
                "(only alphanumeric, hyphens, and underscores allowed)"
            )
            yield error(place, "webhook", message)
        elif address in seen:
            message = (
                f"Triggers '{seen[address]}' and '{name}' have the same webhook name"
                f" '{shorten(address)}'"
            )
            yield error(place, "name-collision", message)
        else:
            seen[address] = name


def check_keys(draft: Draft) -> Iterator[Problem]:
    """A key that is always the same makes a repeat of whatever comes second."""
    for name, subject, trigger in _triggers(draft, *TYPES):
        key = trigger.options.get("idempotency_key")
        if key and not templating.has_tags(key):
            message = (
                f"{subject} idempotency_key '{shorten(key)}' is always the same, so no second job"
                f" starts within the window: write {{{{ {shorten(key.strip(), 40)} }}}} to have"
                " it evaluated"
            )
            yield warning(draft.at("triggers", name, "idempotency_key"), "literal-key", message)


def check_event_sources(draft: Draft) -> Iterator[Problem]:
    for name, subject, trigger in _triggers(draft, "event_source"):
        task = trigger.options["task"]
        if task and task == trigger.options["target_task"]:
            message = (
                f"{subject}: consumer task and target_task cannot be the same ('{shorten(task)}')"
            )
            yield error(draft.at("triggers", name, "target_task"), "event-source", message)


def check_consumers(draft: Draft) -> Iterator[Problem]:
    """Nobody gives a consumer input: with a required one it could never start."""
    for name, subject, trigger in _triggers(draft, "event_source"):
        task_name = str(trigger.options["task"])
        task = draft.workspace.tasks.get(task_name)
        for key, field in task.input.items() if task is not None else ():
            if field.required and not field.has_default:
                message = (
                    f"{subject} starts consumer task '{shorten(task_name)}' without input, but the"
                    f" task requires '{shorten(key)}': give it a default, or use 'env'"
                )
                yield error(draft.at("triggers", name, "task"), "trigger-input", message)


def check_replies(draft: Draft) -> Iterator[Problem]:
    """A pod has no way to hear that its event is safe."""
    for _, subject, trigger in _triggers(draft, "event_source"):
        task = draft.workspace.tasks.get(str(trigger.options["task"]))
        for step_name, step in task.flow.items() if task is not None else ():
            action = draft.workspace.actions.get(step.action)
            if action is None or "pod" not in (action.type, action.runner):
                continue
            texts = " ".join([action.script or "", action.cmd or "", *(action.command or ())])
            if ABOUT in texts and "reply" in texts:
                message = (
                    f"{subject}: step '{shorten(step_name)}' of its consumer runs in a pod, where"
                    " an event gets no reply, and the step fails at the first that asks for one:"
                    ' remove "reply", or use `runner: local` or `docker`'
                )
                key = "runner" if action.runner == "pod" else "type"
                yield warning(draft.in_action(step.action, key), "no-effect", message)


def check_circles(draft: Draft) -> Iterator[Problem]:
    """Tasks that start each other when they end would never come to rest."""
    found = [
        (name, subject, trigger.watches[1], trigger.starts)
        for name, subject, trigger in _triggers(draft, _ENDS_OF_JOBS)
        if trigger.enabled and trigger.watches is not None and not trigger.watches[0]
    ]
    if not found:
        return
    graph = {name: follows.after(draft.workspace, name) for name in draft.workspace.tasks}
    for name, subject, watched, started in found:
        if watched in dag.closure(graph, [started]):
            message = (
                f"{subject} starts task '{shorten(started)}', whose end leads to task"
                f" '{shorten(watched)}' again: the jobs would never come to rest"
            )
            yield error(draft.at("triggers", name, "on_job"), "circle", message)


def check_trigger_inputs(draft: Draft) -> Iterator[Problem]:
    """A trigger that omits a required input, or gives an undeclared one, fails every time."""
    hints = _MOST_HINTS
    for name, subject, trigger in _triggers(draft, _CLOCKS, _ENDS_OF_JOBS):
        task_name = trigger.starts
        task = draft.workspace.tasks.get(task_name)
        if task is None:
            continue
        for key in trigger.input:
            if key not in task.input:
                message = (
                    f"{subject} passes input '{shorten(key)}', which task '{shorten(task_name)}'"
                    " does not declare"
                )
                if hints > 0:
                    hints -= 1
                    message += did_you_mean(key, task.input)
                yield warning(draft.at("triggers", name, "input", key), "trigger-input", message)
        for key, field in task.input.items():
            if field.required and not field.has_default and trigger.input.get(key) is None:
                message = (
                    f"{subject} does not pass input '{shorten(key)}', which task"
                    f" '{shorten(task_name)}' requires"
                )
                yield warning(draft.at("triggers", name, "input"), "trigger-input", message)


def check_trigger_values(draft: Draft) -> Iterator[Problem]:
    """A value without a template must fit the field of the task: it would be refused every time."""
    for name, subject, trigger in _triggers(draft, *TYPES):
        task = draft.workspace.tasks.get(trigger.starts)
        for key, value in trigger.input.items() if task else ():
            sentence = _misfit(task, key, value) if task else None
            if sentence is not None:
                place = draft.at("triggers", name, "input", key)
                yield error(place, "trigger-input", f"{subject} {sentence}")


def _misfit(task: Task, key: str, value: Any) -> str | None:
    field = task.input.get(key)
    if field is None or value is None or field.type not in PRIMITIVES or _has_template(value):
        return None
    try:
        inputs.resolve({key: field}, {key: value}, {})
    except InputError as wrong:
        return wrong.problems[key]
    return None


def _has_template(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_template, value))
    return templating.has_tags(value)


def check_watched_workspaces(draft: Draft) -> Iterator[Problem]:
    """`on_job: {workspace: ...}` is for the jobs of others."""
    for name, trigger in draft.workspace.triggers.items():
        watched = trigger.options.get("on_job", {}).get("workspace")
        if watched is None:
            continue
        subject = f"Trigger '{shorten(name)}' on_job"
        place = draft.at("triggers", name, "on_job", "workspace")
        if not WORKSPACE.fullmatch(watched):
            message = f"{subject} 'workspace': '{shorten(watched)}' is no workspace's name"
            yield error(place, "bad-type", message)
        elif watched == draft.name:
            message = f"{subject} names this workspace itself: leave 'workspace' out"
            yield error(place, "no-effect", message)


CHECKS = (
    check_trigger_tasks,
    check_schedules,
    check_time_zones,
    check_webhooks,
    check_keys,
    check_event_sources,
    check_consumers,
    check_replies,
    check_circles,
    check_trigger_inputs,
    check_trigger_values,
    check_watched_workspaces,
)
