"""Connections stored in the database: storing, changing, removing, and which ones there are."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction

from apps.audit.services import changes_of, note
from apps.workspaces import revisions
from apps.workspaces.merging import NOTHING_HELD, fitted, held, listed
from apps.workspaces.models import Connection, Workspace
from apps.workspaces.problems import plain
from apps.workspaces.revisions import definition_of
from apps.workspaces.sealing import seal
from engine.errors import Conflict, InputError, NotFound
from engine.masking import ANCHOR, MASK
from engine.plain import shorten
from engine.spec.connection_types import Properties, fields_of, fit
from engine.spec.model import Place, Problem
from engine.spec.model import Workspace as Definition
from engine.spec.problems import did_you_mean

UNFIT = "stored-connection"  # the code of problems
LONGEST = 100_000
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_TEMPLATE = re.compile(r"\{\{.*\}\}|\{%.*%\}", re.DOTALL)
_SECRET_TEMPLATE = re.compile(r"\{\{-?\s*secrets?\s*[.\[]")


@dataclass(frozen=True, slots=True)
class Listed:
    """A connection that steps can name. `type` is None where the files give none; `trouble` and
    `dropped` say what is wrong with a stored one since the type changed."""

    name: str
    type: str | None
    row: Connection | None = None
    overrides: bool = False
    trouble: str = ""
    dropped: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        return "database" if self.row else "files"

    @property
    def advice(self) -> str:
        """What is wrong, and what to do, in one sentence; empty if nothing is."""
        if self.trouble:
            return (
                f"It no longer fits its type ({self.trouble}), and steps that name it fail: store"
                " its values again, or remove it"
            )
        if self.dropped:
            return (
                f"Its type no longer declares {listed(self.dropped)}, which steps do not get any"
                " more: save it again to forget these values"
            )
        return ""


def connections_in(
    workspace: Workspace, definition: Definition, rows: Iterable[Connection] | None = None
) -> dict[str, Listed]:
    """The connections of the files and of the database, by name. `rows`: those of the database, if
    they have been read already."""
    found = {
        name: Listed(name, values.get("type")) for name, values in definition.connections.items()
    }
    if rows is None:
        rows = Connection.objects.filter(workspace=workspace)
    for row in rows:
        values = held(row.sealed).values
        _, dropped, trouble = fitted(row.type, definition.connection_types, values)
        found[row.name] = Listed(row.name, row.type, row, row.name in found, trouble, dropped)
    return dict(sorted(found.items()))


def kinds_in(workspace_id: int, definition: Definition) -> dict[str, str | None]:
    """The type of each connection of the files and of the database, by name."""
    found = {name: values.get("type") for name, values in definition.connections.items()}
    stored = Connection.objects.filter(workspace_id=workspace_id).values_list("name", "type")
    return {**found, **dict(stored)}


def rows_of(workspaces: Collection[Workspace]) -> dict[int, list[Connection]]:
    """The connections in the database, by the id of their workspace. One query."""
    found: dict[int, list[Connection]] = {}
    for row in Connection.objects.filter(workspace__in=workspaces):
        found.setdefault(row.workspace_id, []).append(row)
    return found


def stored_names(workspaces: Collection[Workspace]) -> dict[int, list[str]]:
    """The names of the connections in the database, by the id of their workspace."""
    found: dict[int, list[str]] = {}
    rows = Connection.objects.filter(workspace__in=workspaces)
    for workspace_id, name in rows.values_list("workspace_id", "name"):
        found.setdefault(workspace_id, []).append(name)
    return found


def offered(kinds: Mapping[str, str | None], wanted: Iterable[str]) -> dict[str, list[str]]:
    """The names that fit each of the `wanted` types; an untyped connection fits all."""
    return {
        kind: sorted(name for name, has in kinds.items() if has in (kind, None)) for kind in wanted
    }


def store(
    workspace: Workspace,
    name: str,
    kind: str,
    given: Mapping[str, Any],
    *,
    by: str,
    version: int | None = None,
    adds: bool = False,
) -> Connection:
    """Store a connection, or give it other values. It overrides one of the files.

    A value that is the mask stays what it was; with `adds`, so does one that is not given.
    `version` is the one that the caller has seen, 0 for none. Raises InputError and Conflict.
    """
    definition = definition_of(workspace.current_id) if workspace.current_id else Definition()
    check_name(name, kind, definition)
    properties = definition.connection_types[kind]
    with transaction.atomic():
        Workspace.objects.select_for_update(no_key=True).filter(pk=workspace.pk).first()
        row = Connection.objects.filter(workspace=workspace, name=name).first()
        _refuse_older(row, version)
        known = held(row.sealed) if row else NOTHING_HELD
        before = known.values
        values = check_values(properties, _completed(given, before, properties, adds=adds))
        earlier = definition.connection_types.get(row.type, {}) if row else {}
        row = row or Connection(workspace=workspace, name=name, version=0)
        stay = {key for key in known.secret if values.get(key) == before.get(key)}
        hidden = [key for key in values if properties[key].get("secret") or key in stay]
        row.type, row.updated_by, row.version = kind, by, row.version + 1
        row.sealed = seal({"values": values, "secret": hidden})
        row.save()
        _renote(workspace, definition)
        secret = known.secret | _secret_in(earlier, properties)
        told = changes_of(before, values, secret=secret)
        note("connection.set", name, by=by, workspace=workspace.name, changes=told)
    revisions.forget_secrets(workspace.pk)
    return row


def _secret_in(*types: Properties) -> set[str]:
    """Also of what is not stored any more: the log tells what was there before."""
    return {key for each in types for key, field in each.items() if field.get("secret")}


def kind_of(workspace: Workspace, name: str) -> str:
    """The type of a stored connection. Raises NotFound."""
    found = Connection.objects.filter(workspace=workspace, name=name).first()
    if found is None:
        raise NotFound(
            f"No connection '{shorten(name)}' is stored in the database; give its type and all of"
            " its values to store one"
        )
    return found.type


def remove(workspace: Workspace, name: str) -> bool:
    """Delete a stored connection; whether one of the files is in force again. Raises NotFound."""
    definition = definition_of(workspace.current_id) if workspace.current_id else Definition()
    with transaction.atomic():
        if not Connection.objects.filter(workspace=workspace, name=name).delete()[0]:
            where = "; the one of the files is changed there" * (name in definition.connections)
            raise NotFound(f"No connection '{shorten(name)}' is stored in the database{where}")
        _renote(workspace, definition)
        note("connection.remove", name, workspace=workspace.name)
    revisions.forget_secrets(workspace.pk)
    return name in definition.connections


def check_name(name: str, kind: str, definition: Definition) -> None:
    """Raises InputError if the workspace cannot have this connection."""
    written = definition.connections.get(name)
    problems = {}
    if (written is None and not _NAME.fullmatch(name)) or len(name) > 100:
        problems["name"] = "the name of a connection has letters, digits, '_', '-' and '.' only"
    if kind not in definition.connection_types:
        hint = did_you_mean(kind, definition.connection_types)
        problems["type"] = f"the files have no connection type '{shorten(kind)}'{hint}"
    elif written is not None and written.get("type") not in (kind, None):
        problems["type"] = (
            f"the files have a connection '{shorten(name)}' of type '{written['type']}'; one of"
            f" type '{kind}' in its place would fail the steps that use it"
        )
    if problems:
        raise InputError(problems)


def check_values(properties: Properties, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values to store. Raises InputError with a sentence for each wrong field."""
    problems: dict[str, str] = {}
    found: dict[str, Any] = {}
    try:
        found = fit(properties, given)
    except InputError as error:
        problems |= error.problems
    for name, field in fields_of(properties).items():
        value = given.get(name)
        if name in problems or value in (None, ""):
            continue
        pattern = _SECRET_TEMPLATE if field.secret else _TEMPLATE
        if isinstance(value, str) and pattern.search(value):
            problems[name] = (
                f"field '{name}' holds a template, and stored values are taken as they are: give"
                " the value itself"
            )
        elif field.secret and field.type != "boolean" and len(str(value).strip()) < ANCHOR:
            problems[name] = (
                f"field '{name}' must have at least {ANCHOR} characters, or it cannot be masked"
            )
    if problems:
        raise InputError(problems)
    if len(json.dumps(found)) > LONGEST:
        raise InputError({"values": f"a connection may have at most {LONGEST} bytes"})
    return found


def _completed(
    given: Mapping[str, Any], before: Mapping[str, Any], properties: Properties, *, adds: bool
) -> dict[str, Any]:
    missing = [name for name, value in given.items() if value == MASK and name not in before]
    if missing:
        raise InputError(
            {
                name: f"field '{shorten(name)}' has no stored value that could stay"
                for name in missing
            }
        )
    kept = {
        name: value
        for name, value in before.items()
        if name in properties and (given.get(name) == MASK or (adds and name not in given))
    }
    return {**given, **kept}


def _refuse_older(row: Connection | None, version: int | None) -> None:
    if version is None or version == (row.version if row else 0):
        return
    if row is None:
        raise Conflict("The connection was removed meanwhile: look at it again")
    raise Conflict(
        f"{row.updated_by or 'Somebody'} has changed the connection meanwhile (it has version"
        f" {row.version} now, not {version}): look at it again"
    )


def unfit(workspace: Workspace, definition: Definition) -> list[Problem]:
    """Warnings about stored connections that these files leave behind."""
    return [
        Problem(Place(), UNFIT, f"Connection '{one.name}' of the database: {one.advice}", "warning")
        for one in connections_in(workspace, definition).values()
        if one.advice
    ]


def notes(workspace_name: str, definition: Definition) -> list[str]:
    """For whoever looks at files before they come into force: what the database has instead."""
    workspace = Workspace.objects.filter(name=workspace_name).first()
    if workspace is None:
        return []
    found = []
    for one in connections_in(workspace, definition).values():
        if one.overrides and one.row:
            found.append(
                f"Note: connection '{one.name}' of the database (version {one.row.version})"
                f" overrides the one of the files in workspace '{workspace.name}'"
            )
    return found + [f"Warning: {problem.message}" for problem in unfit(workspace, definition)]


def _renote(workspace: Workspace, definition: Definition) -> None:
    """What the last look at the source said about stored connections, said anew."""
    row = Workspace.objects.select_for_update(no_key=True).get(pk=workspace.pk)
    others = [problem for problem in row.problems if problem.get("code") != UNFIT]
    problems = others + [plain(problem) for problem in unfit(row, definition)]
    if problems != row.problems:
        Workspace.objects.filter(pk=row.pk).update(problems=problems)
