"""Definitions of revisions: stored without secret values, cached in memory as revisions never
change.

The default of a secret input becomes a template that reads a generated secret; so it is rendered,
masked and encrypted like any other secret. Values that only later features need (webhook secrets,
credentials of MCP servers) are stored beside the secrets and are null in the definition.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

from apps.workspaces.models import Revision
from engine import templating
from engine.masking import SURELY_SECRET, secret_strings
from engine.spec import freeze
from engine.spec.model import InputField, Problem
from engine.spec.model import Workspace as Definition

_MOST = 200
_PREFIX = "literal-"  # not allowed in names of stored secrets
_MCP_PRIVATE = ("env", "auth_token", "headers")
_known: OrderedDict[int, Definition] = OrderedDict()
_lock = threading.Lock()


def definitions_of(revision_ids: Collection[int]) -> dict[int, Definition]:
    """The definition of each revision, without secret values; one query for all that are not
    cached."""
    with _lock:
        found = {key: _known[key] for key in revision_ids if key in _known}
    missing = set(revision_ids) - set(found)
    if missing:
        rows = Revision.objects.filter(pk__in=missing).values_list("pk", "definition")
        fresh = {key: freeze.workspace_from_json(content) for key, content in rows}
        _remember(fresh)
        found |= fresh
    return found


def definition_of(revision_id: int) -> Definition:
    """The definition of one revision, without secret values."""
    return definitions_of([revision_id])[revision_id]


def forget(revision_id: int) -> None:
    with _lock:
        _known.pop(revision_id, None)


def _remember(fresh: dict[int, Definition]) -> None:
    with _lock:
        for key, definition in fresh.items():
            _known[key] = definition
            _known.move_to_end(key)
        while len(_known) > _MOST:
            _known.popitem(last=False)


def strip(workspace: Definition) -> tuple[Definition, dict[str, Any]]:
    """The workspace without secret values, and the JSON to encrypt."""
    literals: dict[str, Any] = {}
    names = _names(workspace)
    actions = {
        name: replace(action, input=_without_defaults(action.input, names, literals))
        for name, action in workspace.actions.items()
    }
    tasks = {
        name: replace(task, input=_without_defaults(task.input, names, literals))
        for name, task in workspace.tasks.items()
    }
    bare = replace(
        workspace,
        actions=actions,
        tasks=tasks,
        triggers={
            name: replace(
                trigger, options={**trigger.options, **_nothing(trigger.options, ("secret",))}
            )
            for name, trigger in workspace.triggers.items()
        },
        mcp_servers={
            name: {**server, **_nothing(server, _MCP_PRIVATE)}
            for name, server in _servers(workspace)
        },
        connections={
            name: {"type": values.get("type")} for name, values in workspace.connections.items()
        },
        connection_types={
            name: _without_secret_defaults(kind)
            for name, kind in workspace.connection_types.items()
        },
    )
    return bare, _private(workspace, literals)


def _private(workspace: Definition, literals: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "secrets": {**freeze.to_json(workspace.secrets), **literals},
        "connections": freeze.to_json(workspace.connections),
        "type_defaults": {
            name: _defaults_of(kind) for name, kind in workspace.connection_types.items()
        },
        "triggers": {
            name: {"secret": trigger.options["secret"]}
            for name, trigger in workspace.triggers.items()
            if trigger.options.get("secret")
        },
        "mcp_servers": {
            name: {key: freeze.to_json(server[key]) for key in _MCP_PRIVATE if server.get(key)}
            for name, server in _servers(workspace)
        },
    }


def _defaults_of(kind: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    given = {key: described.get("default") for key, described in kind.items()}
    return {key: default for key, default in given.items() if default is not None}


def _names(workspace: Definition) -> Iterator[str]:
    number = 0
    while True:
        if (name := f"{_PREFIX}{number}") not in workspace.secrets:
            yield name
        number += 1


def _without_defaults(
    fields: Mapping[str, InputField], names: Iterator[str], literals: dict[str, Any]
) -> dict[str, InputField]:
    found = dict(fields)
    for key, field in fields.items():
        if (
            field.secret
            and field.has_default
            and field.default is not None
            and not templating.has_tags(field.default)
        ):
            name = next(names)
            literals[name] = freeze.to_json(field.default)
            found[key] = replace(field, default=f'{{{{ secret["{name}"] }}}}')
    return found


def _servers(workspace: Definition) -> list[tuple[str, Mapping[str, Any]]]:
    return list(workspace.mcp_servers.items())


def _nothing(values: Mapping[str, Any], keys: tuple[str, ...]) -> dict[str, None]:
    return {key: None for key in keys if values.get(key) is not None}


def _without_secret_defaults(kind: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    # Connections of the files got their defaults when these were read; those of the database get
    # them when they are used.
    return {
        name: {
            **{key: value for key, value in described.items() if key != "default"},
            "sealed_default": True,
        }
        if described.get("secret") and described.get("default") is not None
        else described
        for name, described in kind.items()
    }


def written_out(definition: Definition) -> list[Problem]:
    """Warnings about values of secrets repeated outside of `secrets:`, where they cannot be
    hidden."""
    found = []
    for name, value in definition.secrets.items():
        texts = tuple(
            text
            for text in secret_strings(value)
            if len(text) >= SURELY_SECRET and "{{" not in text
        )
        if not texts:
            continue
        for kind, things in (("Action", definition.actions), ("Task", definition.tasks)):
            for owner, thing in things.items():
                if _mentions(freeze.to_json(thing), texts):
                    message = (
                        f"{kind} '{owner}' repeats the value of secret '{name}', so it is"
                        f" stored in clear; write {{{{ secret.{name} }}}} instead"
                    )
                    found.append(Problem(thing.place, "secret-in-clear", message, "warning"))
    return found


def _mentions(tree: Any, texts: tuple[str, ...]) -> bool:
    stack = [tree]
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            if any(text in value for text in texts):
                return True
        elif isinstance(value, dict):
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    return False
