"""The pen: writes firings and their statuses, and what a trigger remembers of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_one, jsonb, storable
from apps.triggers.models import LIVE, Firing, Trigger
from apps.triggers.values import Turn
from engine.errors import StaleMove
from engine.lifecycle import FIRING_TABLE, FiringEventKind, FiringStatus, sources, target
from engine.slots import Missed

LONGEST_REASON = 2000
NOBODY = "no scheduler was there at the time"
BROKEN_AGAIN = timedelta(seconds=60)
REFRESH_AGAIN = timedelta(seconds=60)  # where the one that read the workspace was killed
WRITE = """
INSERT INTO triggers_firing (trigger_id, cause, slot, key, idempotency, status, reason, job_id,
    until, count, due_at, sealed, by, created_at)
VALUES (%(trigger)s, %(cause)s, %(slot)s, %(key)s, %(idempotency)s, %(status)s, %(reason)s,
    %(job)s, %(until)s, %(count)s, %(due)s, %(sealed)s, %(by)s, %(now)s)
ON CONFLICT DO NOTHING RETURNING id
"""
MOVE = """
UPDATE triggers_firing SET status = %(to)s, reason = %(reason)s, job_id = %(job)s, due_at = NULL,
    sealed = CASE WHEN %(keeps)s THEN sealed END
WHERE id = %(id)s AND status = ANY(%(sources)s) RETURNING id
"""
SUPERSEDE = """
UPDATE triggers_firing SET status = %(to)s, reason = %(reason)s, due_at = NULL, sealed = NULL
WHERE trigger_id = %(trigger)s AND status = ANY(%(sources)s)
"""
STARTED = """
UPDATE triggers_trigger SET last_fired_at = %(now)s, last_job_id = %(job)s, failures = 0,
    last_error = '' WHERE id = %(id)s
"""
REFUSED = """
UPDATE triggers_trigger SET last_fired_at = %(now)s, failures = failures + 1,
    last_error = %(reason)s WHERE id = %(id)s
"""
ASIDE = """
UPDATE triggers_trigger SET next_at = %(at)s, failures = failures + 1, last_error = %(reason)s
WHERE id = %(id)s
"""
SET = """
UPDATE triggers_trigger SET next_slot = %(slot)s, next_at = %(at)s,
    last_slot = coalesce(%(last)s, last_slot) WHERE id = %(id)s
"""
# Turns of many clocks that need no decision but their time.
WRITE_ALL = """
INSERT INTO triggers_firing (trigger_id, cause, slot, key, idempotency, status, reason, job_id,
    until, count, by, created_at)
SELECT x.trigger, %(cause)s, x.slot, '', '', x.status, x.reason, x.job, x.until, x.count, '',
    %(now)s
FROM jsonb_to_recordset(%(rows)s) AS x(trigger bigint, slot timestamptz, status text, reason text,
    job uuid, until timestamptz, count int)
ON CONFLICT DO NOTHING RETURNING job_id
"""
SET_ALL = """
UPDATE triggers_trigger t SET next_slot = x.next, next_at = x.at,
    last_slot = coalesce(x.slot, t.last_slot), last_job_id = coalesce(x.job, t.last_job_id),
    last_fired_at = CASE WHEN x.job IS NULL THEN t.last_fired_at ELSE %(now)s END,
    failures = CASE WHEN x.job IS NULL THEN t.failures ELSE 0 END,
    last_error = CASE WHEN x.job IS NULL THEN t.last_error ELSE '' END
FROM jsonb_to_recordset(%(rows)s) AS x(id bigint, next timestamptz, at timestamptz,
    slot timestamptz, job uuid)
WHERE t.id = x.id
"""
FIRED = """
SELECT x.id FROM unnest(%(ids)s::bigint[], %(slots)s::timestamptz[]) AS x(id, slot)
JOIN triggers_firing f ON f.trigger_id = x.id AND f.slot = x.slot
"""
BUSY = """
WITH open AS (
    SELECT source_type, source_id, retry_of_id FROM jobs_job
    WHERE status IN ('pending', 'running') AND source_type IN ('trigger', 'retry')
),
held AS (
    SELECT source_id FROM open WHERE source_type = 'trigger'
    UNION ALL
    SELECT first.source_id FROM open JOIN jobs_job first ON first.id = open.retry_of_id
    WHERE open.source_type = 'retry' AND first.source_type = 'trigger'
)
SELECT own.id FROM unnest(%(ids)s::bigint[], %(sources)s::text[]) AS own(id, source)
WHERE own.source IN (SELECT source_id FROM held) OR EXISTS (
    SELECT FROM triggers_firing f WHERE f.trigger_id = own.id AND f.status = 'waiting'
)
"""
TAKE = """
UPDATE triggers_firing SET due_at = %(again)s WHERE id = %(id)s AND due_at <= %(now)s RETURNING id
"""
WAITING = """
SELECT DISTINCT ON (f.trigger_id) f.id, f.trigger_id FROM triggers_firing f
WHERE f.status = 'waiting' AND f.due_at <= %s ORDER BY f.trigger_id, f.id
"""


# A flood of requests that prove nothing leaves a line a second, and pushes no real delivery out.
REJECT = """
INSERT INTO triggers_delivery (trigger_id, delivery_id, method, headers, query, size_bytes, outcome,
    answer, reason, received_at)
SELECT %(trigger)s, '', %(method)s, '{}', '{}', %(size)s, 'rejected', 401, %(reason)s, %(now)s
WHERE NOT EXISTS (
    SELECT FROM triggers_delivery WHERE trigger_id = %(trigger)s AND outcome = 'rejected'
        AND received_at > %(now)s - interval '1 second'
) RETURNING id
"""
FORGET = """
DELETE FROM triggers_delivery d USING (
    SELECT id FROM (
        SELECT id, row_number() OVER (
            PARTITION BY outcome = 'rejected' ORDER BY received_at DESC, id DESC
        ) AS rank
        FROM triggers_delivery WHERE trigger_id = %(trigger)s
    ) numbered WHERE rank > %(kept)s
) old WHERE d.id = old.id RETURNING d.id
"""
KEPT_DELIVERIES = 50


def database_now() -> datetime:
    """The one clock of all hosts."""
    found = fetch_one("SELECT clock_timestamp()", ())
    assert found is not None
    moment: datetime = found[0]
    return moment


def locked(trigger_id: int) -> Trigger | None:
    """The trigger, so that nobody else fires it until the end of the transaction."""
    rows = Trigger.objects.select_for_update(no_key=True, of=("self",))
    return rows.select_related("workspace").filter(pk=trigger_id).first()


def locked_if_due(trigger_ids: Sequence[int], now: datetime) -> list[Trigger]:
    """The same, those of them whose clock is due and that no other scheduler has in hand."""
    rows = Trigger.objects.select_for_update(no_key=True, skip_locked=True, of=("self",))
    found = rows.filter(LIVE, pk__in=trigger_ids, next_at__lte=now).order_by("pk")
    return list(found.prefetch_related("workspace"))  # one row of each, not one of each clock


def due_clocks(now: datetime, most: int) -> list[int]:
    found = Trigger.objects.filter(next_at__lte=now).order_by("next_at", "pk")
    return list(found.values_list("pk", flat=True)[:most])


def write(firing: Firing, now: datetime) -> bool:
    """Insert a firing; False if its slot or its key has one already."""
    params = {
        "trigger": firing.trigger_id,
        "cause": firing.cause,
        "slot": firing.slot,
        "key": firing.key,
        "idempotency": firing.idempotency,
        "status": firing.status,
        "reason": storable(firing.reason)[:LONGEST_REASON],
        "job": firing.job_id,
        "until": firing.until,
        "count": firing.count,
        "due": firing.due_at,
        "sealed": firing.sealed,
        "by": firing.by,
        "now": now,
    }
    row = fetch_one(WRITE, params)
    if row is None:
        return False
    firing.pk, firing.created_at = row[0], now
    return True


def write_ended(firing: Firing, event: FiringEventKind, reason: str, now: datetime) -> bool:
    """Insert a firing that has ended at once; False if its slot or its key has one already."""
    firing.status, firing.reason = target(FIRING_TABLE, event), reason
    return write(firing, now)


def write_missed(trigger_id: int, missed: Missed, now: datetime) -> None:
    row = Firing(
        trigger_id=trigger_id,
        cause=Firing.Cause.SLOT,
        slot=missed.first,
        until=missed.last,
        count=missed.count,
        status=FiringStatus.MISSED,
        reason=NOBODY,
    )
    write(row, now)


def move(
    firing: Firing,
    event: FiringEventKind,
    *,
    reason: str = "",
    job: UUID | None = None,
    keeps: bool = False,
) -> bool:
    """Move a waiting firing, or a dead letter; False if it is none any more. `keeps`: what is
    sealed with it."""
    params: dict[str, Any] = {
        "id": firing.pk,
        "to": target(FIRING_TABLE, event),
        "sources": list(sources(FIRING_TABLE, event)),
        "reason": storable(reason)[:LONGEST_REASON],
        "job": job,
        "keeps": keeps,
    }
    return fetch_one(MOVE, params) is not None


def supersede_waiting(trigger_id: int, reason: str) -> None:
    event = FiringEventKind.SUPERSEDED
    params = {
        "trigger": trigger_id,
        "to": target(FIRING_TABLE, event),
        "sources": list(sources(FIRING_TABLE, event)),
        "reason": reason,
    }
    fetch(SUPERSEDE, params)


def note_started(trigger_id: int, job: UUID, now: datetime) -> None:
    fetch(STARTED, {"id": trigger_id, "job": job, "now": now})


def note_refused(trigger_id: int, reason: str, now: datetime) -> None:
    params = {"id": trigger_id, "reason": storable(reason)[:LONGEST_REASON], "now": now}
    fetch(REFUSED, params)


def set_aside(trigger_id: int, reason: str, now: datetime) -> None:
    """Look at a clock that we cannot carry out again later; its slot is kept."""
    fetch(ASIDE, {"id": trigger_id, "reason": reason, "at": now + BROKEN_AGAIN})


def set_clock(
    trigger_id: int, slot: datetime | None, at: datetime | None, last: datetime | None = None
) -> None:
    fetch(SET, {"id": trigger_id, "slot": slot, "at": at, "last": last})


def fired(slots: Mapping[int, datetime]) -> set[int]:
    """Those of these triggers that have a firing for this slot already."""
    params = {"ids": list(slots), "slots": list(slots.values())}
    return {trigger_id for (trigger_id,) in fetch(FIRED, params)}


def busy(sources: Mapping[int, str]) -> set[int]:
    """Those of these triggers with an open job of `source_id`, or with a firing that waits."""
    params = {"ids": list(sources), "sources": list(sources.values())}
    return {trigger_id for (trigger_id,) in fetch(BUSY, params)}


def write_turns(turns: Sequence[Turn], now: datetime) -> None:
    """Note what became of the slots of many clocks, and set them to their next ones. Raises
    StaleMove if one of them was dealt with before."""
    rows = [row for turn in turns for row in _firings(turn)]
    started = sum(turn.job is not None for turn in turns)
    params = {"cause": Firing.Cause.SLOT, "rows": jsonb(rows), "now": now}
    if rows and sum(job is not None for (job,) in fetch(WRITE_ALL, params)) != started:
        raise StaleMove("a slot was dealt with already")
    fetch(SET_ALL, {"rows": jsonb([_setting(turn) for turn in turns]), "now": now})


def _firings(turn: Turn) -> Iterator[dict[str, Any]]:
    row = {"trigger": turn.trigger_id, "reason": "", "job": None, "until": None, "count": 1}
    if turn.due.missed is not None:
        missed = turn.due.missed
        span = {"slot": missed.first.isoformat(), "until": missed.last.isoformat()}
        status = FiringStatus.MISSED.value
        yield {**row, **span, "count": missed.count, "status": status, "reason": NOBODY}
    if turn.due.slot is not None:
        status = target(FIRING_TABLE, FiringEventKind.STARTED)
        slot = turn.due.slot.isoformat()
        yield {**row, "slot": slot, "status": status, "job": str(turn.job)}


def _setting(turn: Turn) -> dict[str, Any]:
    moments = {"next": turn.due.next, "at": turn.at, "slot": turn.due.slot}
    shown = {key: at.isoformat() if at else None for key, at in moments.items()}
    return {"id": turn.trigger_id, **shown, "job": str(turn.job) if turn.job else None}


def take_for_refresh(firing_id: int, now: datetime) -> bool:
    """Whether this process is the one that reads the workspace for the firing."""
    return fetch_one(TAKE, {"id": firing_id, "now": now, "again": now + REFRESH_AGAIN}) is not None


def due_waiting(now: datetime) -> list[tuple[int, int]]:
    """(firing, trigger): of each trigger the oldest firing that waits no longer."""
    return [(firing_id, trigger_id) for firing_id, trigger_id in fetch(WAITING, (now,))]


def note_rejected(trigger_id: int, method: str, size: int, reason: str, now: datetime) -> None:
    """A delivery whose sender proved nothing: what it carried is not kept."""
    values = {"trigger": trigger_id, "method": method, "size": size, "reason": reason, "now": now}
    if fetch_one(REJECT, values) is not None:
        forget_deliveries(trigger_id)


def forget_deliveries(trigger_id: int) -> None:
    """Keep the newest KEPT_DELIVERIES of a webhook, and as many rejected ones."""
    fetch(FORGET, {"trigger": trigger_id, "kept": KEPT_DELIVERIES})
