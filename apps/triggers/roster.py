"""Keeps the rows of triggers in step with the revision of their workspace."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from apps.audit.services import note
from apps.jobs.database.sql import retried
from apps.triggers import abroad, clocks, transitions
from apps.triggers.models import Trigger
from apps.workspaces.models import Workspace
from engine.errors import NotFound
from engine.spec import freeze
from engine.spec.model import Place, Problem
from engine.spec.model import Trigger as Definition
from engine.spec.model import Workspace as Contents

_OF_CLOCKS = ("cron", "timezone", "jitter")  # a change of these sets the clock anew


def follow(workspace: Workspace, contents: Contents | None) -> None:
    """Bring the rows in step with a definition, in the transaction that puts it into force. A
    trigger that left the files stops; its history stays."""
    wanted: Mapping[str, Definition] = contents.triggers if contents is not None else {}
    rows = Trigger.objects.select_for_update(no_key=True, of=("self",)).select_related("workspace")
    known = {row.name: row for row in rows.filter(workspace_id=workspace.pk).order_by("pk")}
    if not wanted and not known:
        return
    now = transitions.database_now()
    for name, definition in wanted.items():
        row = known.pop(name, None) or Trigger(workspace=workspace, name=name, is_listed=False)
        _update(row, definition, now)
    for row in known.values():
        if row.is_listed:
            row.is_listed = False
            row.save(update_fields=["is_listed"])
            clocks.wind(row, now)


def _update(row: Trigger, definition: Definition, now: datetime) -> None:
    frozen = freeze.to_json(definition)
    if row.is_listed and row.definition == frozen:
        return
    was_set = row.is_live and row.kind == definition.type and row.next_slot is not None
    keeps = was_set and _clock(row.definition) == _clock(frozen)
    row.kind, row.task, row.definition = definition.type, definition.starts, frozen
    row.address = str(definition.options.get("name") or "")
    row.watched = abroad.watched(definition)
    row.is_listed, row.is_enabled = True, definition.enabled
    row.save()
    if not (keeps and row.is_live):
        clocks.wind(row, now)


def _clock(definition: Mapping[str, Any]) -> list[Any]:
    return [definition["options"].get(key) for key in _OF_CLOCKS]


@retried
def set_paused(trigger_id: int, is_paused: bool, by: str) -> Trigger:
    """Pause a trigger, or let it go on from now. Raises NotFound."""
    row = transitions.locked(trigger_id)
    if row is None:
        raise NotFound(f"Trigger {trigger_id} not found")
    if (row.paused_at is not None) == is_paused:
        return row
    now = transitions.database_now()
    row.paused_at, row.paused_by = (now, by) if is_paused else (None, "")
    row.save(update_fields=["paused_at", "paused_by"])
    clocks.wind(row, now)
    verb = "pause" if is_paused else "resume"
    note(f"trigger.{verb}", row.name, by=by, workspace=row.workspace.name)
    return row


def doubts(workspace: Workspace, definition: Contents) -> list[Problem]:
    """Warnings about what does not fit the other workspaces."""
    return [*_shared_addresses(workspace, definition), *abroad.doubts(workspace.name, definition)]


def _shared_addresses(workspace: Workspace, definition: Contents) -> list[Problem]:
    own = {
        str(trigger.options["name"]): trigger
        for trigger in definition.triggers.values()
        if trigger.type == "webhook" and trigger.options.get("name")
    }
    if not own:
        return []
    others = Trigger.objects.filter(address__in=own, is_listed=True, kind="webhook")
    others = others.exclude(workspace_id=workspace.pk).select_related("workspace")
    return [_shared(workspace, own[other.address], other) for other in others.order_by("pk")]


def _shared(workspace: Workspace, trigger: Definition, other: Trigger) -> Problem:
    place = Place(**other.definition["place"])
    message = (
        f"workspace '{other.workspace}' has a webhook named '{other.address}' too ({place}): the"
        f" short address /hooks/{other.address} is refused; use"
        f" /hooks/{workspace}/{other.address}, or rename one"
    )
    return Problem(trigger.place, "shared-address", message, "warning")
