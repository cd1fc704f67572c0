"""What people see of event sources."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from apps.jobs.database.sql import fetch_named
from apps.triggers.models import Firing, Trigger
from apps.triggers.values import MOST, SourceState
from apps.workspaces.rights import REFUSALS
from engine.lifecycle import JobStatus
from engine.rights import Right, Rights

# Open jobs of the events of `own`, a source, and the runs that retry one of them.
_OPEN = """
SELECT 1 FROM jobs_job j WHERE j.status IN ('pending', 'running')
    AND j.source_type = 'event_source' AND j.source_id = own.source_id
UNION ALL
SELECT 1 FROM jobs_job j JOIN jobs_job first ON first.id = j.retry_of_id
WHERE j.status IN ('pending', 'running') AND j.source_type = 'retry'
    AND first.source_type = 'event_source' AND first.source_id = own.source_id
"""
IN_FLIGHT = """
SELECT (SELECT count(*) FROM (OPEN_JOBS LIMIT %(most)s) x)
FROM (SELECT %(source)s::text AS source_id) own
""".replace("OPEN_JOBS", _OPEN)
LOOK = """
SELECT t.id, t.is_listed AND t.is_enabled AND t.paused_at IS NULL AS is_wanted, s.consumer_id,
    coalesce(s.is_stopping, false) AS is_stopping, coalesce(s.is_resting, false) AS is_resting,
    s.next_at, coalesce(s.failures, 0) AS failures, coalesce(s.error, '') AS error,
    coalesce(s.starts, 0) AS starts, coalesce(s.events, 0) AS events, s.last_event_at, j.status,
    (SELECT string_agg(DISTINCT worker.name, ', ') FROM jobs_step step
        JOIN fleet_worker worker ON worker.id = step.worker_id
        WHERE step.job_id = j.id AND step.status = 'running') AS worker,
    (SELECT count(*) FROM (OPEN_JOBS LIMIT %(most)s) x) AS in_flight,
    (SELECT count(*) FROM (SELECT 1 FROM triggers_firing f WHERE f.trigger_id = t.id
        AND f.status = 'dead' LIMIT %(most)s) x) AS dead_letters
FROM triggers_trigger t JOIN workspaces_workspace w ON w.id = t.workspace_id
CROSS JOIN LATERAL (SELECT w.name || '/' || t.name AS source_id) own
LEFT JOIN triggers_source s ON s.trigger_id = t.id LEFT JOIN jobs_job j ON j.id = s.consumer_id
WHERE t.id = ANY(%(ids)s) AND t.kind = 'event_source'
""".replace("OPEN_JOBS", _OPEN)


def with_sources(triggers: Iterable[Trigger]) -> list[Trigger]:
    """The same, event sources with what people see of them."""
    rows = list(triggers)
    states = source_states(rows)
    for row in rows:
        row.seen_source = states.get(row.pk)
    return rows


def veiled_trigger(row: Trigger, rights: Rights) -> Trigger:
    """Without what quotes inputs and logs, for those who may not see them; never saved."""
    if Right.LOGS not in rights:
        row.last_error = ""
        if row.seen_source is not None:
            row.seen_source = replace(row.seen_source, error="")
    return row


def veiled(rows: list[Firing], rights: Rights) -> list[Firing]:
    """The same for firings."""
    for row in rows if Right.LOGS not in rights else ():
        row.reason = REFUSALS[Right.LOGS] if row.reason else ""
    return rows


def source_states(triggers: Iterable[Trigger]) -> dict[int, SourceState]:
    """By trigger id, of those that are event sources."""
    ids = [trigger.pk for trigger in triggers if trigger.kind == "event_source"]
    rows = fetch_named(LOOK, {"ids": ids, "most": MOST}) if ids else []
    return {row.id: _state(row) for row in rows}


def _state(row: Any) -> SourceState:
    return SourceState(
        _word(row),
        row.worker or "",
        row.consumer_id,
        max(row.starts - 1, 0),
        row.failures,
        row.events,
        row.in_flight,
        row.dead_letters,
        row.error,
        row.next_at if _word(row) == "restarting" else None,
        row.last_event_at,
    )


def _word(row: Any) -> str:
    is_open = row.status is not None and not JobStatus(row.status).is_final
    if is_open and row.is_stopping:
        return "stopping"
    if is_open:
        return "running" if row.worker else "waiting"
    if not row.is_wanted:
        return "off"
    return "resting" if row.is_resting else "restarting"
