"""Rules about declared inputs, connections, secrets and triggers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from engine.errors import AuthorError, InputError
from engine.spec import cron, inputs
from engine.spec.draft import Draft, task_subject
from engine.spec.fields import ALIASES, PRIMITIVES
from engine.spec.model import InputField, Place, Problem, Trigger
from engine.spec.problems import did_you_mean, error, shorten, warning

_RESERVED = (*PRIMITIVES, *ALIASES, "array", "object")
_MOST_HINTS = 100
_SECRET_NAME = re.compile(r"[A-Za-z0-9_]+")
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)
_SLUG = re.compile(r"[A-Za-z0-9_-]{1,200}")
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){0,2}")


@dataclass(frozen=True, slots=True)
class _Declared:
    subject: str
    field: InputField
    section: str
    owner: str
    path: tuple[str, ...]

    def at(self, draft: Draft, *rest: str | int) -> Place:
        if self.section == "actions":
            return draft.in_action(self.owner, *self.path, *rest)
        return draft.at(self.section, self.owner, *self.path, *rest)


def _declared(draft: Draft) -> Iterator[_Declared]:
    for name, subject, action in draft.actions():
        for key, field in action.input.items():
            yield _Declared(
                f"{subject} input '{shorten(key)}'", field, "actions", name, ("input", key)
            )
    for name, task in draft.workspace.tasks.items():
        for key, field in task.input.items():
            subject = f"{task_subject(name)} input '{shorten(key)}'"
            yield _Declared(subject, field, "tasks", name, ("input", key))


def check_input_types(draft: Draft) -> Iterator[Problem]:
    types = draft.sections["connection_types"]
    for declared in _declared(draft):
        wanted = declared.field.type
        if wanted in PRIMITIVES or wanted in types or not draft.is_complete:
            continue
        if "." in wanted:
            message = (
                f"{declared.subject} references library type '{shorten(wanted)}': this version"
                " does not carry out libraries; use a type of this workspace"
            )
            yield warning(declared.at(draft, "type"), "library-type", message)
        else:
            message = (
                f"{declared.subject} references unknown type '{shorten(wanted)}' "
                f"(not a primitive or connection type){did_you_mean(wanted, (*PRIMITIVES, *types))}"
            )
            yield error(declared.at(draft, "type"), "input-type", message)


def check_multiple(draft: Draft) -> Iterator[Problem]:
    for declared in _declared(draft):
        field = declared.field
        if not field.multiple:
            continue
        place = declared.at(draft, "multiple")
        if field.type not in PRIMITIVES:
            message = (
                f"{declared.subject}: multiple is not supported on connection-type fields (type"
                f" '{field.type}')"
            )
            yield error(place, "multiple", message)
        elif field.type not in ("string", "text"):
            message = (
                f"{declared.subject}: multiple is only supported on string/text fields (got"
                f" '{field.type}')"
            )
            yield error(place, "multiple", message)
        if field.secret:
            yield error(
                place, "multiple", f"{declared.subject}: secret and multiple cannot be combined"
            )
        if field.options is None:
            yield warning(
                place, "multiple", f"{declared.subject}: multiple requires options to be set"
            )


def _fits(field: InputField, option: str) -> bool:
    one = replace(field, required=False, options=None)
    try:
        inputs.resolve({"it": one}, {"it": option}, {})
    except InputError:
        return False
    return True


def check_options(draft: Draft) -> Iterator[Problem]:
    for declared in _declared(draft):
        field, subject = declared.field, declared.subject
        if field.options is None:
            if field.allow_custom:
                message = f"{subject}: allow_custom has no effect without options"
                yield warning(declared.at(draft, "allow_custom"), "options", message)
            continue
        place = declared.at(draft, "options")
        if not field.options:
            yield warning(place, "options", f"{subject}: options list is empty")
        if "" in field.options:
            yield warning(place, "options", f"{subject}: options list contains an empty string")
        for option in field.options:
            if option and not (field.multiple or _fits(field, option)):
                message = f"{subject}: option '{shorten(option)}' is not of type {field.type}"
                yield warning(place, "options", message)
        for option, count in Counter(field.options).items():
            if count > 1:
                yield warning(place, "options", f"{subject}: duplicate option '{shorten(option)}'")


def check_defaults(draft: Draft) -> Iterator[Problem]:
    """A default must fit its field; templates are checked when rendered."""
    for declared in _declared(draft):
        field = declared.field
        if not field.has_default or _is_template(field.default):
            continue
        place = declared.at(draft, "default")
        if field.multiple:
            yield from _check_many(declared, place)
        elif field.type in PRIMITIVES:
            yield from _check_one(declared, place)


def _is_template(value: object) -> bool:
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def _check_many(declared: _Declared, place: Place) -> Iterator[Problem]:
    field, subject = declared.field, declared.subject
    if not isinstance(field.default, list):
        yield warning(
            place, "default", f"{subject}: default of a multiple field should be an array"
        )
        return
    if not all(isinstance(item, str) for item in field.default):
        yield warning(place, "default", f"{subject}: default items must be strings")
        return
    for item, count in Counter(field.default).items():
        if count > 1:
            yield warning(place, "default", f"{subject}: duplicate default item '{shorten(item)}'")
        if field.options is not None and not field.allow_custom and item not in field.options:
            yield warning(
                place,
                "default",
                f"{subject}: default item '{shorten(item)}' is not in options list",
            )


def _check_one(declared: _Declared, place: Place) -> Iterator[Problem]:
    field, subject = declared.field, declared.subject
    plain = InputField(type=field.type, secret=field.secret)
    try:
        value = inputs.resolve({"default": plain}, {"default": field.default}, {}).get("default")
    except InputError as wrong:
        sentence = wrong.problems["default"].removeprefix("input ")
        yield error(place, "default", f"{subject}: {sentence}")
        return
    written = inputs.written(value)
    if value is not None and field.options is not None and not inputs.is_option(field, value):
        shown = "" if field.secret else f" '{shorten(written)}'"
        yield warning(place, "default", f"{subject}: default value{shown} is not in options list")


def check_variables(draft: Draft) -> Iterator[Problem]:
    """Scripts get each input as STROEM_INPUT_<NAME>: names may collide."""
    for name, subject, action in draft.actions():
        if action.type not in ("script", "docker", "pod"):
            continue
        seen: dict[str, str] = {}
        for key in action.input:
            place, variable = draft.in_action(name, "input", key), inputs.variable_of(key)
            if variable in seen:
                message = (
                    f"{subject} inputs '{shorten(seen[variable])}' and '{shorten(key)}' both become"
                    f" {variable}; rename one, or read the file named by STROEM_INPUTS_FILE"
                )
                yield warning(place, "input-variable", message)
            seen.setdefault(variable, key)


def check_connection_types(draft: Draft) -> Iterator[Problem]:
    for name, named in draft.sections["connection_types"].items():
        if name in _RESERVED:
            message = (
                f"Connection type name '{name}' is reserved (collides with a primitive input-field"
                " type or alias)"
            )
            yield error(named.place, "reserved-name", message)


def check_connections(draft: Draft) -> Iterator[Problem]:
    types = draft.workspace.connection_types
    hints = _MOST_HINTS
    for name, values in draft.workspace.connections.items():
        subject = f"Connection '{shorten(name)}'"
        declared = values.get("type")
        yield from _check_values(draft, name, subject)
        if not isinstance(declared, str):
            continue
        if declared not in types:
            if draft.is_complete and "." not in declared:
                hint = did_you_mean(declared, types)
                message = (
                    f"{subject} references non-existent connection type '{shorten(declared)}'{hint}"
                )
                yield error(draft.at("connections", name, "type"), "missing-type", message)
            continue
        for key, described in types[declared].items():
            if described.get("required") and values.get(key) is None:
                message = (
                    f"{subject} is missing required field '{shorten(key)}' (type '{declared}')"
                )
                yield error(draft.at("connections", name), "missing-field", message)
        for key in values:
            if key != "type" and key not in types[declared]:
                message = f"{subject} has field '{shorten(key)}' not defined in type '{declared}'"
                if hints > 0:
                    hints -= 1
                    message += did_you_mean(key, types[declared])
                yield warning(draft.at("connections", name, key), "connection-field", message)


def _check_values(draft: Draft, name: str, subject: str) -> Iterator[Problem]:
    for key, value in draft.workspace.connections[name].items():
        if value is None or (isinstance(value, str) and not value.strip()):
            message = f"{subject} field '{shorten(key)}' has an empty value"
            yield error(draft.at("connections", name, key), "empty-field", message)


def check_secrets(draft: Draft) -> Iterator[Problem]:
    for name, value in draft.workspace.secrets.items():
        place = draft.at("secrets", name)
        if not _SECRET_NAME.fullmatch(name):
            message = (
                f"Secret name '{shorten(name)}' contains invalid characters (only alphanumeric and"
                " underscore allowed)"
            )
            yield error(place, "secret-name", message)
        if value is None or (isinstance(value, str) and not value.strip()):
            yield error(place, "empty-field", f"Secret '{shorten(name)}' has an empty value")


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
    except (
        LookupError,
        ValueError,
        OSError,
    ):  # unknown, malformed, or a directory of the zone tables
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
    """A schedule that omits a required input, or gives an undeclared one, fails every time."""
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
    check_input_types,
    check_multiple,
    check_options,
    check_defaults,
    check_variables,
    check_connection_types,
    check_connections,
    check_secrets,
    check_trigger_tasks,
    check_schedules,
    check_time_zones,
    check_webhooks,
    check_event_sources,
    check_trigger_inputs,
)
