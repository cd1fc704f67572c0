"""Whose turn it is: one reader at a time for each workspace, and longer pauses after each end by a
limit, up to quarantine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from django.conf import settings
from django.db import connection
from django.db.models.functions import Now

from apps.workspaces.errors import LIMIT
from apps.workspaces.models import Workspace

LEASE_MARGIN_S = 30.0  # what a reader may take to start and to be ended
TAKE = """
UPDATE workspaces_workspace
SET reading_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
WHERE id = %(id)s AND (reading_until IS NULL OR reading_until < clock_timestamp())
RETURNING id
"""
TAKE_DUE = """
UPDATE workspaces_workspace
SET reading_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
WHERE id = (
    SELECT id FROM workspaces_workspace
    WHERE (checked_at IS NULL
           OR checked_at + make_interval(secs => poll_interval_s) < clock_timestamp())
      AND (not_before IS NULL OR not_before < clock_timestamp())
      AND (reading_until IS NULL OR reading_until < clock_timestamp())
      AND (stops = 0 OR %(also_stopped)s)
    ORDER BY stops, checked_at NULLS FIRST
    LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, stops
"""
STOPPED = """
UPDATE workspaces_workspace
SET stops = stops + 1, stopped_because = %(why)s, reading_until = NULL,
    checked_at = clock_timestamp(),
    problems = CASE WHEN problems @> %(told)s::jsonb THEN problems ELSE %(problems)s::jsonb END,
    quarantined_at = CASE WHEN stops + 1 >= %(after)s
        THEN coalesce(quarantined_at, clock_timestamp()) END,
    not_before = clock_timestamp() + make_interval(secs => CASE WHEN stops + 1 >= %(after)s
        THEN %(quarantine_s)s
        ELSE least(%(quarantine_s)s, poll_interval_s * power(2, stops + 1)) END)
WHERE id = %(id)s
"""


@dataclass(frozen=True, slots=True)
class Turn:
    """A workspace that this process may read now. `was_stopped`: the last time, a limit ended
    it."""

    workspace_id: int
    was_stopped: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How reading ended. `stopped`: by a limit; `failed`: for a reason that is not the source's;
    `given_up`: this process ends."""

    kind: Literal["read", "stopped", "failed", "given_up"]
    why: str = ""


def take(workspace_id: int) -> Turn | None:
    """The turn of this workspace, unless somebody reads it."""
    found = _first(TAKE, {"id": workspace_id, "lease_s": _lease_s()})
    return Turn(workspace_id) if found else None


def take_due(*, also_stopped: bool) -> Turn | None:
    """The next workspace whose time has come; those that limits ended come last, and only if
    `also_stopped`."""
    found = _first(TAKE_DUE, {"lease_s": _lease_s(), "also_stopped": also_stopped})
    return Turn(found[0], found[1] > 0) if found else None


def end(turn: Turn, outcome: Outcome) -> None:
    """Note how it ended, and let others read this workspace."""
    row = Workspace.objects.filter(pk=turn.workspace_id)
    match outcome.kind:
        case "read":
            row.update(
                reading_until=None,
                stops=0,
                stopped_because="",
                not_before=None,
                quarantined_at=None,
            )
        case "stopped":
            _note_stop(turn, outcome.why)
        case "failed":
            row.update(reading_until=None, checked_at=Now())  # and again after the usual pause
        case "given_up":
            row.update(reading_until=None)


def _note_stop(turn: Turn, why: str) -> None:
    limits = settings.STROEM.refresh
    location = Workspace.objects.filter(pk=turn.workspace_id).values_list("location", flat=True)
    file = location.first() or ""
    problem = {
        "severity": "error", "file": file, "line": 0, "column": 0, "code": LIMIT, "message": why,
        "text": f"{file}: {why}",
    }  # fmt: skip
    values: dict[str, Any] = {
        "id": turn.workspace_id,
        "why": why[:500],
        "told": json.dumps([{"code": LIMIT}]),
        "problems": json.dumps([problem]),
        "after": limits.quarantine_after,
        "quarantine_s": limits.quarantine_s,
    }
    with connection.cursor() as cursor:
        cursor.execute(STOPPED, values)


def _lease_s() -> float:
    return float(settings.STROEM.refresh.timeout_s + LEASE_MARGIN_S)


def _first(statement: str, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        found: tuple[Any, ...] | None = cursor.fetchone()
    return found
