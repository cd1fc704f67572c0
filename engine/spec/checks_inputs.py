"""Rules about declared inputs, connections, and secrets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from engine import templating
from engine.errors import InputError
from engine.plain import shorten
from engine.spec import inputs
from engine.spec.connection_types import Use, field_of, taking, uses_of
from engine.spec.connections import CHECK
from engine.spec.draft import Draft, task_subject
from engine.spec.fields import ALIASES, HOOK_LISTS, PRIMITIVES
from engine.spec.model import Hook, InputField, Place, Problem
from engine.spec.problems import did_you_mean, error, warning

_RESERVED = (*PRIMITIVES, *ALIASES, "array", "object")
_MOST_HINTS = 100
_SECRET_NAME = re.compile(r"[A-Za-z0-9_]+")
_CHECKABLE = ("script", "docker", "pod")


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


def check_input_names(draft: Draft) -> Iterator[Problem]:
    for declared in _declared(draft):
        name = declared.path[-1]
        if not name.strip() or name != name.strip() or len(name) > 200 or not name.isprintable():
            wrong = (
                "needs a name of at most 200 letters, without control characters and without"
                " spaces around it"
            )
            yield error(declared.at(draft), "name", f"{declared.subject} {wrong}")


def check_input_types(draft: Draft) -> Iterator[Problem]:
    types = draft.sections["connection_types"]
    for declared in _declared(draft):
        wanted = declared.field.type
        if wanted in PRIMITIVES or wanted in types or not draft.is_complete:
            continue
        owner = wanted.partition(".")[0]
        if not draft.has("libraries", owner) or owner in draft.fetched:
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
        if field.type not in PRIMITIVES and field.type in draft.sections["connection_types"]:
            message = f"{subject}: options have no effect on connection-type fields"
            if not field.multiple:  # which is an error
                yield warning(place, "options", f"{message} (type '{field.type}')")
            continue
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
        if not field.has_default or templating.has_tags(field.default):
            continue
        place = declared.at(draft, "default")
        if field.multiple:
            yield from _check_many(declared, place)
        elif field.type in PRIMITIVES:
            yield from _check_one(declared, place)


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
            if key in types[declared]:
                yield from _check_value(draft, name, key, types[declared][key])
            elif key != "type":
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


def _check_value(
    draft: Draft, name: str, key: str, described: Mapping[str, Any]
) -> Iterator[Problem]:
    """A value that the form of this connection would refuse."""
    value = draft.workspace.connections[name][key]
    if draft.node("connections", name, key) is None or (isinstance(value, str) and "{" in value):
        return  # the default of its type, or a template
    field = replace(field_of(described), required=False)
    try:
        inputs.resolve({key: field}, {key: value}, {}, path=f"Connection '{shorten(name)}' field")
    except InputError as refusal:
        place = draft.at("connections", name, key)
        yield warning(place, "connection-field", refusal.problems[key])


def check_named_connections(draft: Draft) -> Iterator[Problem]:
    """Who names a connection of another type, or one that is nearly called so. Others may be
    stored on the server."""
    connections = draft.workspace.connections
    for name, uses in uses_of(draft.workspace).items() if connections else ():
        found = connections.get(name, {}).get("type")
        hint = did_you_mean(name, connections) if name not in connections else ""
        for use in uses:
            subject = f"{str(use)[0].upper()}{str(use)[1:]}"
            if isinstance(found, str) and found != use.wanted:
                message = (
                    f"{subject} expects a connection of type '{use.wanted}', but '{shorten(name)}'"
                    f" is of type '{shorten(found)}'"
                )
                yield error(_place_of(draft, name, use), "connection", message)
            elif hint:
                message = f"{subject} names the connection '{shorten(name)}', which the files lack"
                yield warning(_place_of(draft, name, use), "connection", message + hint)


def _place_of(draft: Draft, name: str, use: Use) -> Place:
    """Where the connection `name` is named."""
    event = use.owner if use.kind == "hook" else use.step
    if event in HOOK_LISTS:
        workspace = draft.workspace
        owner = workspace if use.kind == "hook" else workspace.tasks[use.owner]
        hooks: tuple[Hook, ...] = getattr(owner.hooks, event)
        for hook in hooks:
            if hook.input.get(use.input) == name:
                return hook.place
    if use.kind == "action":
        return draft.in_action(use.owner, "input", use.input, "default")
    if use.kind == "trigger":
        return draft.at("triggers", use.owner, "input", use.input)
    if use.step:
        return draft.in_step(use.owner, use.step, "input", use.input)
    return draft.at("tasks", use.owner, "input", use.input, "default")


def check_properties(draft: Draft) -> Iterator[Problem]:
    """A default must fit its own property; a connection without a value would get it."""
    for name, properties in draft.workspace.connection_types.items():
        for key, described in properties.items():
            default = described.get("default")
            if default is None or (isinstance(default, str) and "{" in default):
                continue
            subject = f"Connection type '{shorten(name)}' property"
            field = field_of(described)
            try:
                inputs.resolve({key: field}, {key: default}, {}, path=subject)
            except InputError as refusal:
                place = draft.at("connection_types", name, key, "default")
                message = f"the default of {refusal.problems[key]}"
                yield warning(place, "bad-default", message[0].upper() + message[1:])


def check_checks(draft: Draft) -> Iterator[Problem]:
    """`check` names an action of the workspace that a connection of the type can be given to."""
    for name, wanted in draft.workspace.connection_checks.items():
        place = draft.at("connection_types", name, CHECK)
        subject = f"Connection type '{shorten(name)}' check"
        action = draft.workspace.actions.get(wanted)
        if action is None:
            if draft.is_complete and not draft.has_action(wanted):
                hint = did_you_mean(wanted, draft.workspace.actions)
                message = f"{subject} names the action '{shorten(wanted)}', which is missing{hint}"
                yield error(place, "missing-action", message)
            continue
        if action.type not in _CHECKABLE:
            message = (
                f"{subject} names the action '{shorten(wanted)}' of type '{action.type}'; only"
                f" {'/'.join(_CHECKABLE)} actions can check a connection"
            )
            yield error(place, "check", message)
            continue
        taken = taking(action, name)
        if taken is None:
            message = (
                f"{subject} names the action '{shorten(wanted)}', which has no input of type"
                f" '{shorten(name)}' to take the connection"
            )
            yield error(place, "check", message)
            continue
        for key, field in action.input.items():
            if key != taken and field.required and not field.has_default:
                message = (
                    f"{subject} gives the action '{shorten(wanted)}' only '{shorten(taken)}'; its"
                    f" required input '{shorten(key)}' needs a default"
                )
                yield error(place, "check", message)


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


CHECKS = (
    check_input_names,
    check_input_types,
    check_multiple,
    check_options,
    check_defaults,
    check_connection_types,
    check_connections,
    check_named_connections,
    check_properties,
    check_checks,
    check_secrets,
)
