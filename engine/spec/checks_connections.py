"""Rules about connections, their types, and secrets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from engine.spec.draft import Draft
from engine.spec.fields import ALIASES, PRIMITIVES
from engine.spec.model import Problem
from engine.spec.problems import did_you_mean, error, shorten, warning

_RESERVED = (*PRIMITIVES, *ALIASES, "array", "object")
_MOST_HINTS = 100
_SECRET_NAME = re.compile(r"[A-Za-z0-9_]+")


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


CHECKS = (check_connection_types, check_connections, check_secrets)
