"""Rules about the types of connections: options, defaults, and the action that checks one."""

from __future__ import annotations

from collections.abc import Iterator

from engine.errors import InputError
from engine.spec import inputs
from engine.spec.connection_types import field_of, taking
from engine.spec.connections import CHECK
from engine.spec.draft import Draft
from engine.spec.model import Problem
from engine.spec.problems import did_you_mean, error, shorten, warning

CHECKABLE = ("script", "docker", "pod")


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
        if action.type not in CHECKABLE:
            message = (
                f"{subject} names the action '{shorten(wanted)}' of type '{action.type}'; only"
                f" {'/'.join(CHECKABLE)} actions can check a connection"
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


CHECKS = (check_properties, check_checks)
