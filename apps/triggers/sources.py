"""Keeps one consumer of each event source alive. Any number of schedulers do this at a time."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.db import DatabaseError

from apps.jobs import services as jobs
from apps.jobs.database.sql import fetch, fetch_named, retried
from apps.jobs.flow import blueprints
from apps.jobs.flow.contexts import redact
from apps.jobs.flow.starting import CONSUMER, Origin
from apps.triggers.models import Source
from apps.workspaces.errors import SecretError
from apps.workspaces.models import Revision
from apps.workspaces.revisions import sensitive_of
from engine import sources as rules
from engine.errors import Conflict, StroemError
from engine.lifecycle import JobStatus
from engine.sources import Consumer, Note, Start, Stop, decide

log = logging.getLogger("stroem.triggers")
BACKOFF_S = 5.0
# What may need a hand: wanted sources, and those whose consumer has not ended, or rests.
LOOK = """
SELECT t.id, t.name, t.definition->'options'->>'task' AS task,
    t.definition->'options'->>'restart_policy' AS policy,
    (t.definition->'options'->>'backoff_secs')::float AS backoff_s, t.is_listed, t.is_enabled,
    t.paused_at, w.id AS workspace_id, w.name AS workspace, w.current_id, s.consumer_id,
    s.revision_id, s.is_stopping, s.is_noted, s.is_resting, s.failures,
    s.next_at IS NULL OR s.next_at <= clock_timestamp() AS is_due, j.status, j.error,
    extract(epoch FROM j.completed_at - coalesce(j.started_at, j.created_at))::float AS ran_s
FROM triggers_trigger t JOIN workspaces_workspace w ON w.id = t.workspace_id
LEFT JOIN triggers_source s ON s.trigger_id = t.id LEFT JOIN jobs_job j ON j.id = s.consumer_id
WHERE t.kind = 'event_source' AND (%(id)s::bigint IS NULL OR t.id = %(id)s::bigint) AND (
    (t.is_listed AND t.is_enabled AND t.paused_at IS NULL)
    OR s.is_resting OR NOT s.is_noted OR j.status IN ('pending', 'running'))
ORDER BY t.id
"""
# Before the look, which then sees all that others did under this lock.
LOCK = "SELECT 1 FROM triggers_trigger WHERE id = %s FOR NO KEY UPDATE SKIP LOCKED"
# Whether its last attempt was lost with its worker.
LOST = """
SELECT a.status = 'lost' FROM jobs_step s JOIN jobs_attempt a ON a.step_id = s.id
WHERE s.job_id = %s ORDER BY a.id DESC LIMIT 1
"""
STARTED = """
INSERT INTO triggers_source (trigger_id, consumer_id, revision_id, is_stopping, is_noted,
    is_resting, failures, error, starts, events)
VALUES (%(id)s, %(job)s, %(revision)s, false, false, false, 0, '', 1, 0)
ON CONFLICT (trigger_id) DO UPDATE SET consumer_id = %(job)s, revision_id = %(revision)s,
    is_stopping = false, is_noted = false, is_resting = false, next_at = NULL,
    starts = triggers_source.starts + 1
"""
NOTED = """
INSERT INTO triggers_source (trigger_id, is_stopping, is_noted, is_resting, failures, error, starts,
    events, next_at)
VALUES (%(id)s, false, true, %(rests)s, %(failures)s, %(error)s, 0, 0,
    clock_timestamp() + make_interval(secs => %(wait_s)s))
ON CONFLICT (trigger_id) DO UPDATE SET is_noted = true, is_stopping = false,
    is_resting = EXCLUDED.is_resting, failures = EXCLUDED.failures, error = EXCLUDED.error,
    next_at = EXCLUDED.next_at
"""


def tend() -> int:
    """Start, stop and follow up on consumers; returns how many needed it."""
    done = 0
    for row in fetch_named(LOOK, {"id": None}):
        if decide(_source(row)) is None:
            continue
        try:
            done += _turn(row.id)
        except (DatabaseError, StroemError) as error:
            log.warning("event source %s/%s: %s", row.workspace, row.name, error)
    return done


@retried
def _turn(trigger_id: int) -> bool:
    """Do the next thing for one source; False if it is in other hands."""
    if not fetch(LOCK, (trigger_id,)):
        return False
    rows = fetch_named(LOOK, {"id": trigger_id})
    if not rows:
        return False
    row = rows[0]
    match decide(_source(row)):
        case Start():
            _start(row)
        case Stop(reason):
            _stop(row, reason)
        case Note(failures, wait_s):
            error = "" if row.is_stopping or row.status != JobStatus.FAILED else row.error
            _note(trigger_id, failures, wait_s, error)
    return True


def _source(row: Any) -> rules.Source:
    return rules.Source(
        row.policy or "always",
        row.backoff_s or BACKOFF_S,
        row.current_id,
        _consumer(row),
        _unwanted(row),
        row.failures or 0,
        bool(row.is_resting),
        bool(row.is_due),
    )


def _consumer(row: Any) -> Consumer | None:
    if row.consumer_id is None or row.status is None:  # none yet, or removed since
        return None
    has_failed = row.status == JobStatus.FAILED
    return Consumer(
        row.revision_id,
        not JobStatus(row.status).is_final,
        row.is_stopping,
        has_failed,
        has_failed and not row.is_noted and _is_lost(row.consumer_id),
        row.is_noted,
        row.ran_s or 0.0,
    )


def _is_lost(job_id: UUID) -> bool:
    found = fetch(LOST, (job_id,))
    return bool(found and found[0][0])


def _unwanted(row: Any) -> str:
    if not row.is_listed:
        return "The files do not have this event source any more"
    if not row.is_enabled:
        return "The files disable this event source"
    return "The event source is paused" if row.paused_at is not None else ""


def _start(row: Any) -> None:
    revision = Revision(id=row.current_id, workspace_id=row.workspace_id)
    origin = Origin(CONSUMER, f"{row.workspace}/{row.name}")
    try:
        job = jobs.launch(
            revision, row.task, blueprints.of_consumer(revision.pk, row.name), {}, origin
        )
    except StroemError as error:
        _note_refusal(row, error)
        return
    fetch(STARTED, {"id": row.id, "job": job.id, "revision": revision.pk})


def _note_refusal(row: Any, error: StroemError) -> None:
    try:
        masks = sensitive_of(row.current_id)
    except SecretError:
        masks = ()
    failures = (row.failures or 0) + 1
    wait_s = rules.back_off_s(_source(row).backoff_s, failures)
    _note(row.id, failures, wait_s, f"It could not start: {redact(str(error), masks)}")


def _note(trigger_id: int, failures: int, wait_s: float | None, error: str) -> None:
    params = {
        "id": trigger_id,
        "failures": failures,
        "rests": wait_s is None,
        "wait_s": wait_s or 0.0,
        "error": error,
    }
    fetch(NOTED, params)


def _stop(row: Any, reason: str) -> None:
    Source.objects.filter(trigger_id=row.id).update(is_stopping=True)
    with suppress(Conflict):  # it has ended in the meantime
        jobs.cancel_job(row.consumer_id, actor="", reason=reason)
