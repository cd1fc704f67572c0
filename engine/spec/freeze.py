"""Definitions as plain JSON and back, losslessly: the form in which a job's definition is stored.

Secrets are left out: a frozen workspace has the names of its secrets, and only templates in secret
fields of connections.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from engine.spec.model import Action, Hooks, InputField, JobEnds, Task, Trigger, Workspace

_PLAIN = frozenset((str, int, float, bool, NoneType))


def to_json(thing: Any) -> Any:
    """`thing` (a model object or a collection of them) as plain JSON types; a workspace without its
    secrets."""
    if type(thing) in _PLAIN:  # the most frequent case, so it comes first
        return thing
    if isinstance(thing, Workspace):
        thing = _without_private(thing)
    kind: Any = type(thing)
    names = _field_names(kind)
    if names is not None:
        return {name: to_json(getattr(thing, name)) for name in names}
    if isinstance(thing, Mapping):
        return {key: to_json(value) for key, value in thing.items()}
    if isinstance(thing, tuple | list):
        return [to_json(value) for value in thing]
    return thing


@cache
def _field_names(kind: Any) -> tuple[str, ...] | None:
    """Of a dataclass; None for any other type."""
    return (
        tuple(field.name for field in dataclasses.fields(kind))
        if dataclasses.is_dataclass(kind)
        else None
    )


def action_from_json(data: Mapping[str, Any]) -> Action:
    return cast(Action, _revive(Action, data))


def task_from_json(data: Mapping[str, Any]) -> Task:
    return cast(Task, _revive(Task, data))


def field_from_json(data: Mapping[str, Any]) -> InputField:
    return cast(InputField, _revive(InputField, data))


def hooks_from_json(data: Mapping[str, Any]) -> Hooks:
    return cast(Hooks, _revive(Hooks, data))


def job_ends_from_json(data: Mapping[str, Any]) -> JobEnds:
    return cast(JobEnds, _revive(JobEnds, data))


def trigger_from_json(data: Mapping[str, Any]) -> Trigger:
    return cast(Trigger, _revive(Trigger, data))


def workspace_from_json(data: Mapping[str, Any]) -> Workspace:
    """The workspace from JSON; its secrets are None."""
    return cast(Workspace, _revive(Workspace, data))


def _without_private(workspace: Workspace) -> Workspace:
    connections = {
        name: {**values, **dict.fromkeys(_secret_keys(workspace, values))}
        for name, values in workspace.connections.items()
    }
    return dataclasses.replace(
        workspace, secrets=dict.fromkeys(workspace.secrets), connections=connections
    )


def _secret_keys(workspace: Workspace, values: Mapping[str, Any]) -> list[str]:
    """A connection's fields with a secret in plain text: secret by type, and not a template."""
    described = workspace.connection_types.get(str(values.get("type")), {})
    return [
        key
        for key, value in values.items()
        if described.get(key, {}).get("secret") and not (isinstance(value, str) and "{{" in value)
    ]


Reviver = Callable[[Any], Any]


def _revive(kind: type, data: Any) -> Any:
    """`data` as a `kind`; unknown keys are ignored, so that older rows stay readable."""
    revive = _reviver(kind)
    return data if revive is None else revive(data)


@cache
def _reviver(hint: Any) -> Reviver | None:
    """A function from plain JSON to the type `hint`; None if no conversion is needed. Cached: a
    flow of thousands of steps has hundreds of thousands of values."""
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return _of_union(get_args(hint))
    if origin is tuple:
        inner = _reviver(get_args(hint)[0])
        return tuple if inner is None else lambda data: tuple([inner(value) for value in data])
    if origin is not None and origin is not Literal and issubclass(origin, Mapping):
        return _of_mapping(_reviver(get_args(hint)[1]))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return _of_dataclass(hint)
    return None


def _of_mapping(inner: Reviver | None) -> Reviver:
    return (
        dict if inner is None else lambda data: {key: inner(value) for key, value in data.items()}
    )


def _of_dataclass(kind: type) -> Reviver:
    hints = get_type_hints(kind)
    known = frozenset(hints)
    revivers: list[tuple[str, Reviver]] | None = None

    def revive(data: Mapping[str, Any]) -> Any:
        nonlocal revivers
        if revivers is None:  # resolved on use: types may contain each other
            found = [(name, _reviver(hint)) for name, hint in hints.items()]
            revivers = [(name, reviver) for name, reviver in found if reviver is not None]
        values = (
            dict(data)
            if known.issuperset(data)
            else {key: data[key] for key in data if key in known}
        )
        for name, reviver in revivers:
            value = values.get(name)
            if value is not None:
                values[name] = reviver(value)
        return kind(**values)

    return revive


def _of_union(hints: tuple[Any, ...]) -> Reviver | None:
    """The matching member: unions in the model are `X | None` and `str | tuple | None`."""
    others = [hint for hint in hints if hint not in (NoneType, str)]
    inner = _reviver(others[0]) if others else None
    if inner is None:
        return None
    has_text = str in hints
    return lambda data: (
        data if data is None or (has_text and isinstance(data, str)) else inner(data)
    )
