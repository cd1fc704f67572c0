"""Rules about triggers: what they start exists, when they fire can be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from engine.errors import AuthorError
from engine.spec import cron
from engine.spec.draft import Draft
from engine.spec.model import Problem, Trigger
from engine.spec.problems import did_you_mean, error, shorten, warning

_MOST_HINTS = 100
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)
_SLUG = re.compile(r"[A-Za-z0-9_-]{1,200}")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")


def _triggers(draft: Draft, *types: str) -> Iterator[tuple[str, str, Trigger]]:
    for name, trigger in draft.workspace.triggers.items():
        if trigger.type in types:
            yield name, f"Trigger '{shorten(name)}'", trigger


def check_trigger_tasks(draft: Draft) -> Iterator[Problem]:
    if not draft.is_complete:
        return
    keys = (("task", "consumer task"), ("target_task", "target task"))
    for name, subject, trigger in _triggers(draft, "scheduler", "webhook", "event_source"):
        for key, words in keys:
            task = trigger.options.get(key)
            if task is None or draft.has("tasks", task):
                continue
            kind = words if trigger.type == "event_source" else "task"
            hint = did_you_mean(task, draft.sections["tasks"])
            message = f"{subject} references non-existent {kind} '{shorten(task)}'{hint}"
            yield error(draft.at("triggers", name, key), "missing-task", message)


def check_schedules(draft: Draft) -> Iterator[Problem]:
    for name, subject, trigger in _triggers(draft, "scheduler"):
        expression = trigger.options["cron"]
        if expression is None:
            continue
        place = draft.at("triggers", name, "cron")
        try:
            cron.times(expression, _ANY_TIME)
        except cron.NeverFires as wrong:
            yield warning(place, "cron", f"{subject} never fires: {wrong}")
        except AuthorError as wrong:
            message = f"{subject} has invalid cron expression '{shorten(expression)}': {wrong}"
            yield error(place, "cron", message)


def check_time_zones(draft: Draft) -> Iterator[Problem]:
    for name, subject, trigger in _triggers(draft, "scheduler"):
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
    except (LookupError, ValueError, OSError):  # unknown, malformed, a directory of the zone tables
        return False
    return True


def check_webhooks(draft: Draft) -> Iterator[Problem]:
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


def check_event_sources(draft: Draft) -> Iterator[Problem]:
    for name, subject, trigger in _triggers(draft, "event_source"):
        task = trigger.options["task"]
        if task is not None and task == trigger.options["target_task"]:
            message = (
                f"{subject}: consumer task and target_task cannot be the same ('{shorten(task)}')"
            )
            yield error(draft.at("triggers", name, "target_task"), "event-source", message)


def check_trigger_inputs(draft: Draft) -> Iterator[Problem]:
    """A schedule that leaves a required input out, or gives one that is not declared, fails at
    every tick."""
    hints = _MOST_HINTS
    for name, subject, trigger in _triggers(draft, "scheduler"):
        task_name = trigger.options["task"]
        task = draft.workspace.tasks.get(task_name or "")
        if task is None:
            continue
        for key in trigger.input:
            if key not in task.input:
                message = (
                    f"{subject} gives input '{shorten(key)}', which task '{shorten(task_name)}'"
                    " does not declare"
                )
                if hints > 0:
                    hints -= 1
                    message += did_you_mean(key, task.input)
                yield warning(draft.at("triggers", name, "input", key), "trigger-input", message)
        for key, field in task.input.items():
            if field.required and not field.has_default and trigger.input.get(key) is None:
                message = (
                    f"{subject} does not give input '{shorten(key)}', which task"
                    f" '{shorten(task_name)}' requires"
                )
                yield warning(draft.at("triggers", name, "input"), "trigger-input", message)


CHECKS = (
    check_trigger_tasks,
    check_schedules,
    check_time_zones,
    check_webhooks,
    check_event_sources,
    check_trigger_inputs,
)
