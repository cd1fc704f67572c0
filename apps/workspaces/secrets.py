"""Secrets: those that people store in the database, encrypted, and those of a revision in clear,
with its connections: cached briefly in memory, never stored or printed."""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import Count, Max, Value

from apps.audit.services import CHANGED, note
from apps.workspaces.errors import LIMIT, SecretError, SecretsPending, SlowSecretError
from apps.workspaces.merging import Stored, merge
from apps.workspaces.models import Connection, Revision, Secret, Workspace
from apps.workspaces.references import render, rendered, resolve
from apps.workspaces.sealing import seal, unseal
from apps.workspaces.snapshots import definition_of
from engine import templating
from engine.errors import InputError, NotFound, TemplateError
from engine.masking import secret_strings
from engine.spec.model import Place, Problem
from engine.spec.model import Workspace as Definition

logger = logging.getLogger(__name__)
LOOK_AGAIN_S = 5.0  # a change in the database is known to all processes after this time
FETCH_AGAIN_S = 300.0  # values from vals or the environment are fetched again after this time
KEEP_S = 1800.0  # how long an older value may be used if fetching fails
LONGEST_SECRET = 100_000
SHORTEST_SECRET = 4
_NAME = re.compile(r"[A-Za-z0-9_]{1,200}")
_MOST = 500
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


_known: dict[int, _Known] = {}
_looked_at: dict[int, float] = {}
_lock = threading.Lock()


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


def forget(workspace_id: int) -> None:
    """Drop cached values in this process: a secret of this workspace was changed here."""
    ids = set(Revision.objects.filter(workspace_id=workspace_id).values_list("pk", flat=True))
    with _lock:
        for revision_id in ids & set(_looked_at):
            del _looked_at[revision_id]


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
        if len(_known) >= _MOST:
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


def unresolved(definition: Definition, workspace: Workspace) -> list[Problem]:
    """Warnings about secrets and connections that cannot be resolved now; jobs that need them would
    fail."""
    rows = Connection.objects.filter(workspace=workspace)
    stored = set(rows.values_list("name", flat=True))
    written = {name: each for name, each in definition.connections.items() if name not in stored}
    try:
        rendered(written, resolve(definition.secrets, workspace.name))
    except SecretError as error:
        code = LIMIT if isinstance(error, SlowSecretError) else "secret"
        return [Problem(Place(), code, str(error), "warning")]
    return []


# Those of the database


def store_secret(workspace: Workspace, name: str, value: Any, *, by: str) -> Secret:
    """Store a secret, encrypted; it overrides one of the same name in the files. Raises
    InputError."""
    check_secret(name, value)
    values = {"sealed": seal(value), "updated_by": by}
    with transaction.atomic():
        row = Secret.objects.update_or_create(workspace=workspace, name=name, defaults=values)[0]
        told = {"value": CHANGED}
        note("secret.set", name, by=by, workspace=workspace.name, changes=told)
    forget(workspace.pk)
    return row


def check_secret(name: str, value: Any) -> None:
    """Raises InputError if templates could not name it or logs could not mask it."""
    if not _NAME.fullmatch(name):
        raise InputError({"name": "a secret name may contain only letters, digits and '_'"})
    if value == "":
        raise InputError({"value": "the value of a secret must not be empty"})
    if not isinstance(value, str | dict | list) or not value:
        raise InputError({"value": "a secret must be a text, or a mapping or list of texts"})
    if isinstance(value, str) and len(value.strip()) < SHORTEST_SECRET:
        raise InputError(
            {
                "value": (
                    f"a secret must have at least {SHORTEST_SECRET} characters, or it cannot be"
                    " masked"
                )
            }
        )
    if len(json.dumps(value)) > LONGEST_SECRET:
        raise InputError({"value": f"a secret may have at most {LONGEST_SECRET} bytes"})


def remove_secret(workspace: Workspace, name: str) -> None:
    """Delete a stored secret. Raises NotFound."""
    with transaction.atomic():
        if not Secret.objects.filter(workspace=workspace, name=name).delete()[0]:
            raise NotFound(f"Secret '{name}' not found")
        note("secret.remove", name, workspace=workspace.name)
    forget(workspace.pk)
