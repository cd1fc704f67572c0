"""What a revision holds: its definition, and beside it, sealed, the secrets that were taken out of
it. Both are cached in memory: revisions never change, but what is stored or fetched for them does.
Secrets in clear are never stored or printed.

The default of a secret input becomes a template that reads a generated secret; so it is rendered,
masked and encrypted like any other secret. Values that only later features need (webhook secrets,
credentials of MCP servers) are stored beside the secrets and are null in the definition.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from django.db.models import Count, Max, Value

from apps.workspaces.errors import SecretError, SecretsPending
from apps.workspaces.merging import Stored, merge
from apps.workspaces.models import Connection, Revision, Secret
from apps.workspaces.references import render, rendered, resolve
from apps.workspaces.sealing import unseal
from engine import templating
from engine.errors import NotFound, TemplateError
from engine.masking import secret_strings
from engine.spec import freeze
from engine.spec.model import InputField
from engine.spec.model import Workspace as Definition

logger = logging.getLogger(__name__)
LOOK_AGAIN_S = 5.0  # a change in the database is known to all processes after this time
FETCH_AGAIN_S = 300.0  # values from vals or the environment are fetched again after this time
KEEP_S = 1800.0  # how long an older value may be used if fetching fails
_MOST_DEFINITIONS = 200
_MOST_KNOWN = 500
_PREFIX = "literal-"  # not allowed in names of stored secrets
_MCP_PRIVATE = ("env", "auth_token", "headers")
_SENSITIVE_KEY = re.compile(r"pass|secret|token|key|credential|auth|dsn", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Known:
    version: tuple[Any, ...]
    fetched_at: float
    secrets: dict[str, Any] = field(repr=False)
    connections: dict[str, dict[str, Any]] = field(repr=False)
    stored: Mapping[str, Stored]
    sensitive: tuple[str, ...] = field(repr=False)
    # by MCP server: its `env`, `headers` and `auth_token`, rendered, or why they cannot be
    servers: dict[str, dict[str, Any] | str] = field(repr=False)


_definitions: OrderedDict[int, Definition] = OrderedDict()
_known: dict[int, _Known] = {}
_looked_at: dict[int, float] = {}
_lock = threading.Lock()


# The definition


def definitions_of(revision_ids: Collection[int]) -> dict[int, Definition]:
    """The definition of each revision, without secret values; one query for all that are not
    cached."""
    with _lock:
        found = {key: _definitions[key] for key in revision_ids if key in _definitions}
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
        _definitions.pop(revision_id, None)


def _remember(fresh: dict[int, Definition]) -> None:
    with _lock:
        for key, definition in fresh.items():
            _definitions[key] = definition
            _definitions.move_to_end(key)
        while len(_definitions) > _MOST_DEFINITIONS:
            _definitions.popitem(last=False)


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
    for key, declared in fields.items():
        if (
            declared.secret
            and declared.has_default
            and declared.default is not None
            and not templating.has_tags(declared.default)
        ):
            name = next(names)
            literals[name] = freeze.to_json(declared.default)
            found[key] = replace(declared, default=f'{{{{ secret["{name}"] }}}}')
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


# Its secrets


def secrets_of(revision: Revision | int) -> dict[str, Any]:
    """`secret.*` for jobs of this revision: secrets of the files, overridden by those of the
    database.

    Raises SecretError if one cannot be resolved.
    """
    return _of(revision).secrets


def connections_of(revision: Revision | int) -> dict[str, dict[str, Any]]:
    """The connections of this revision, rendered and with the defaults of their types; those of
    the database in place of those of the files."""
    return _of(revision).connections


def stored_of(revision: Revision | int) -> Mapping[str, Stored]:
    """Of those connections, the ones of the database: what their users must be told."""
    return _of(revision).stored


def webhook_secret(revision_id: int, trigger: str) -> str | None:
    """The secret of this webhook, rendered; None if the files give none. Raises SecretError."""
    found = Revision.objects.filter(pk=revision_id).values_list("sealed_secrets", flat=True).first()
    private = unseal(found) if found is not None else {}
    text = private.get("triggers", {}).get(trigger, {}).get("secret")
    if text is None:
        return None
    secrets = secrets_of(revision_id)
    try:
        return str(templating.render(text, {"secret": secrets, "secrets": secrets}))
    except TemplateError as error:
        raise SecretError(
            f"the secret of trigger '{trigger}' cannot be rendered: {error}"
        ) from None


def server_credentials(revision: Revision | int, name: str) -> Mapping[str, Any]:
    """`env`, `headers` and `auth_token` of an MCP server, rendered. Raises SecretError."""
    found = _of(revision).servers.get(name, {})
    if isinstance(found, str):
        raise SecretError(f"MCP server '{name}': {found}")
    return found


def secret_values(tree: Any) -> tuple[str, ...]:
    """The texts within `tree` that must be masked: leaves of at least 4 characters."""
    return secret_strings(tree)


def sensitive_of(revision: Revision | int) -> tuple[str, ...]:
    """The texts of this revision that must be masked: all secrets, and the secret fields of
    connections, by type or, without one, by name. Masking host names would make logs unreadable."""
    return _of(revision).sensitive


def forget_secrets(workspace_id: int) -> None:
    """Drop cached values in this process: a secret of this workspace was changed here."""
    ids = set(Revision.objects.filter(workspace_id=workspace_id).values_list("pk", flat=True))
    with _lock:
        for revision_id in ids & set(_looked_at):
            del _looked_at[revision_id]


def look_again(revision_id: int) -> None:
    """Ask the database at the next use, instead of within LOOK_AGAIN_S."""
    with _lock:
        _looked_at.pop(revision_id, None)


def _id(revision: Revision | int) -> int:
    return revision if isinstance(revision, int) else int(revision.pk)


def _of(revision: Revision | int) -> _Known:
    revision_id, now = _id(revision), time.monotonic()
    with _lock:
        known, looked_at = _known.get(revision_id), _looked_at.get(revision_id)
    if known is not None and looked_at is not None and now - looked_at < LOOK_AGAIN_S:
        return known
    version = _version(revision_id)
    if known is None or known.version != version or now - known.fetched_at > FETCH_AGAIN_S:
        known = _renewed(revision_id, known, version, now)
    with _lock:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
            _looked_at.clear()
        _known[revision_id], _looked_at[revision_id] = known, now
    return known


def _version(revision_id: int) -> tuple[Any, ...]:
    """What changes when a secret or a connection is stored or removed; one query."""
    secrets, connections = (
        rows.filter(workspace__revisions=revision_id)
        .values(kind=Value(kind))
        .annotate(newest=Max("updated_at"), count=Count("pk"))
        for kind, rows in ((1, Secret.objects.all()), (2, Connection.objects.all()))
    )
    both = secrets.values_list("kind", "newest", "count").union(
        connections.values_list("kind", "newest", "count"), all=True
    )
    return tuple(sorted(both))


def _renewed(
    revision_id: int, known: _Known | None, version: tuple[Any, ...], now: float
) -> _Known:
    try:
        return _read(revision_id, version, now)
    except (SecretError, SecretsPending):
        # A short outage of a secret store must not fail steps; a changed secret must be noticed.
        if known is None or known.version != version or now - known.fetched_at > KEEP_S:
            raise
        logger.warning(
            "secrets of revision %s could not be fetched again; the earlier ones are used",
            revision_id,
        )
        return known


def _read(revision_id: int, version: tuple[Any, ...], now: float) -> _Known:
    row = (
        Revision.objects.filter(pk=revision_id)
        .values_list("workspace_id", "workspace__name", "sealed_secrets")
        .first()
    )
    if row is None:
        raise NotFound(f"revision {revision_id} is gone; its workspace was removed")
    workspace_id, workspace, sealed = row
    of_files = unseal(sealed) if sealed is not None else {"secrets": {}, "connections": {}}
    stored = Secret.objects.filter(workspace_id=workspace_id).values_list("name", "sealed")
    over = {name: unseal(value) for name, value in stored}
    # Values that the database overrides are not fetched.
    needed = {name: value for name, value in of_files["secrets"].items() if name not in over}
    secrets = resolve(needed, workspace) | over if needed else over
    types = definition_of(revision_id).connection_types
    told: dict[str, Stored] = {}
    replaced: list[dict[str, Any]] = []
    if rows := list(Connection.objects.filter(workspace_id=workspace_id)):
        connections, told, replaced = merge(rows, of_files, types, secrets)
    else:
        written = of_files["connections"]
        connections = rendered(written, secrets) if written else {}
    servers = _rendered_servers(of_files.get("mcp_servers", {}), secrets)
    hidden = [
        *secrets.values(),
        *(_sensitive_part(values, types) for values in (*connections.values(), *replaced)),
        *(one.hidden for one in told.values()),
        *(_hidden_part(values) for values in servers.values() if isinstance(values, dict)),
    ]
    sensitive = secret_values(hidden) if hidden else ()
    return _Known(version, now, secrets, connections, told, sensitive, servers)


def _rendered_servers(
    servers: Mapping[str, Mapping[str, Any]], secrets: Mapping[str, Any]
) -> dict[str, dict[str, Any] | str]:
    """A server that cannot be rendered concerns only those who use it."""
    found: dict[str, dict[str, Any] | str] = {}
    context = {"secret": secrets, "secrets": secrets}
    for name, values in servers.items():
        try:
            found[name] = {key: render(value, context) for key, value in values.items()}
        except TemplateError as error:
            found[name] = str(error)
    return found


def _hidden_part(values: Mapping[str, Any]) -> list[Any]:
    """What nobody may see of a server's credentials."""
    named = {**(values.get("env") or {}), **(values.get("headers") or {})}
    sensitive = [value for key, value in named.items() if _SENSITIVE_KEY.search(key)]
    return [sensitive, values.get("auth_token")]


def _sensitive_part(
    values: Mapping[str, Any], types: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> list[Any]:
    described = types.get(str(values.get("type")), {})
    return [
        value
        for key, value in values.items()
        if key != "type"
        and (described[key].get("secret") if key in described else _SENSITIVE_KEY.search(key))
    ]
