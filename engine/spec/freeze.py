"""Definitions as plain JSON and back, exactly: what a job obeys is stored in this form.

Secrets stay out of it: a frozen workspace knows the names of its secrets, and of its connections' secret fields only
the templates. `private_to_json` gives what was left out, for whoever keeps it encrypted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from engine.spec.model import Action, Hooks, Task, Workspace


def to_json(thing: Any) -> Any:
    """`thing` (a model object, or a collection of them) as plain JSON types; a workspace without its secrets."""
    if isinstance(thing, Workspace):
        thing = _without_private(thing)
    if dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        return {field.name: to_json(getattr(thing, field.name)) for field in dataclasses.fields(thing)}
    if isinstance(thing, Mapping):
        return {key: to_json(value) for key, value in thing.items()}
    if isinstance(thing, tuple | list):
        return [to_json(value) for value in thing]
    return thing


def private_to_json(workspace: Workspace) -> dict[str, Any]:
    """What `to_json(workspace)` leaves out: {secrets, connections}. Clear text: encrypt it or drop it."""
    return {
        "secrets": to_json(workspace.secrets),
        "connections": {
            name: {key: to_json(values[key]) for key in _secret_keys(workspace, values)}
            for name, values in workspace.connections.items()
        },
    }


def action_from_json(data: Mapping[str, Any]) -> Action:
    return cast(Action, _revive(Action, data))


def task_from_json(data: Mapping[str, Any]) -> Task:
    return cast(Task, _revive(Task, data))


def hooks_from_json(data: Mapping[str, Any]) -> Hooks:
    return cast(Hooks, _revive(Hooks, data))


def workspace_from_json(data: Mapping[str, Any], private: Mapping[str, Any] | None = None) -> Workspace:
    """The workspace again; with `private` (from `private_to_json`) exactly as it was, else its secrets are None."""
    workspace = cast(Workspace, _revive(Workspace, data))
    if private is None:
        return workspace
    connections = {
        name: {**values, **private["connections"].get(name, {})} for name, values in workspace.connections.items()
    }
    return dataclasses.replace(workspace, secrets=private["secrets"], connections=connections)


def _without_private(workspace: Workspace) -> Workspace:
    connections = {
        name: {**values, **dict.fromkeys(_secret_keys(workspace, values))}
        for name, values in workspace.connections.items()
    }
    return dataclasses.replace(workspace, secrets=dict.fromkeys(workspace.secrets), connections=connections)


def _secret_keys(workspace: Workspace, values: Mapping[str, Any]) -> list[str]:
    """A connection's fields that hold a secret in clear: its type says so, and the value is no template."""
    described = workspace.connection_types.get(str(values.get("type")), {})
    return [
        key
        for key, value in values.items()
        if described.get(key, {}).get("secret") and not (isinstance(value, str) and "{{" in value)
    ]


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _revive(hint: Any, data: Any) -> Any:
    """`data` as the type `hint`; keys that the type does not know are ignored, so that older rows stay readable."""
    if hint is Any:
        return data
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        return _revive_union(get_args(hint), data)
    if origin is tuple:
        return tuple(_revive(get_args(hint)[0], value) for value in data)
    if origin is not None and origin is not Literal and issubclass(origin, Mapping):
        return {key: _revive(get_args(hint)[1], value) for key, value in data.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        hints = _hints(hint)
        return hint(**{key: _revive(hints[key], value) for key, value in data.items() if key in hints})
    return data


def _revive_union(hints: tuple[Any, ...], data: Any) -> Any:
    """The one member that fits: unions in the model are `X | None` and `str | tuple | None`."""
    if data is None or (isinstance(data, str) and str in hints):
        return data
    return _revive(next(hint for hint in hints if hint not in (NoneType, str)), data)
