"""The pen: writes messages, their statuses, and what a subscription remembers of its receiver."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_named, fetch_one, storable
from engine.lifecycle import DELIVERY_TABLE, DeliveryEventKind, sources, target

KEPT = 50  # delivered messages per subscription, and as many that were given up
KEPT_DAYS = 30
WAITING_HOURS, MOST_WAITING = 24, 10_000
WRITE = """
INSERT INTO subscriptions_delivery (subscription_id, message, event, job_id, body, status, tries,
    next_at, error, created_at)
SELECT s.id, gen_random_uuid(), %(event)s::text, %(job)s::uuid,
    CASE WHEN s.with_output THEN %(full)s::text ELSE %(body)s::text END,
    'waiting', 0, clock_timestamp(), '', clock_timestamp()
FROM subscriptions_subscription s
WHERE s.workspace_id = %(workspace)s AND s.paused_at IS NULL AND %(event)s::text = ANY(s.events)
"""
WRITE_ONE = """
INSERT INTO subscriptions_delivery (subscription_id, message, event, job_id, body, status, tries,
    next_at, error, created_at)
VALUES (%(subscription)s, coalesce(%(message)s::uuid, gen_random_uuid()), %(event)s, %(job)s,
    %(body)s, 'waiting', 0, clock_timestamp(), '', clock_timestamp())
RETURNING id
"""
TAKE = """
UPDATE subscriptions_subscription
SET busy_until = clock_timestamp() + make_interval(secs => %(lease)s)
WHERE id = (
    SELECT s.id FROM subscriptions_subscription s
    WHERE s.paused_at IS NULL
        AND (s.busy_until IS NULL OR s.busy_until <= clock_timestamp())
        AND (s.rest_until IS NULL OR s.rest_until <= clock_timestamp())
        AND EXISTS (
            SELECT FROM subscriptions_delivery d
            WHERE d.subscription_id = s.id AND d.status = 'waiting'
                AND d.next_at <= clock_timestamp()
        )
    ORDER BY s.busy_until NULLS FIRST, s.id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
)
RETURNING id, busy_until
"""
DUE = """
SELECT id, message, event, body, tries FROM subscriptions_delivery
WHERE subscription_id = %s AND status = 'waiting' AND next_at <= clock_timestamp()
ORDER BY next_at, id LIMIT %s
"""
MOVE = """
UPDATE subscriptions_delivery SET status = %(to)s, tries = tries + 1, answer = %(answer)s,
    error = %(error)s, took_ms = %(took)s, tried_at = clock_timestamp(),
    next_at = clock_timestamp() + make_interval(secs => %(wait)s)
WHERE id = %(id)s AND status = ANY(%(sources)s) RETURNING id
"""
RELEASE = """
UPDATE subscriptions_subscription SET busy_until = clock_timestamp(),
    rest_until = clock_timestamp() + make_interval(secs => %(rest)s),
    failures = %(failures)s, last_error = %(error)s, last_tried_at = clock_timestamp()
WHERE id = %(id)s AND busy_until = %(until)s
"""
FORGET = """
DELETE FROM subscriptions_delivery WHERE subscription_id = %(id)s AND status = %(status)s AND id < (
    SELECT id FROM subscriptions_delivery WHERE subscription_id = %(id)s AND status = %(status)s
    ORDER BY id DESC OFFSET %(kept)s LIMIT 1
)
"""
GIVE_UP = """
UPDATE subscriptions_delivery SET status = %(to)s, next_at = NULL, error = CASE error
    WHEN '' THEN '' ELSE error || '; ' END || %(why)s::text
WHERE status = ANY(%(sources)s) AND id IN (
    SELECT id FROM (
        SELECT id, created_at,
            row_number() OVER (PARTITION BY subscription_id ORDER BY id DESC) AS rank
        FROM subscriptions_delivery WHERE status = 'waiting'
    ) numbered
    WHERE rank > %(most)s OR created_at < clock_timestamp() - make_interval(hours => %(hours)s)
)
"""
FORGET_OLD = """
DELETE FROM subscriptions_delivery d
WHERE (d.status <> 'waiting' AND d.created_at < clock_timestamp() - make_interval(days => %s))
    OR NOT EXISTS (SELECT FROM subscriptions_subscription s WHERE s.id = d.subscription_id)
"""
GIVEN_UP = f"given up after {WAITING_HOURS} hours, or before {MOST_WAITING:,} newer messages"


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to send for a subscription, until a time."""

    subscription_id: int
    until: datetime


@dataclass(frozen=True, slots=True)
class Due:
    id: int
    message: UUID
    event: str
    body: str
    tries: int


@dataclass(frozen=True, slots=True)
class Try:
    """How one try to send ended. An empty `error`: the receiver has taken it."""

    error: str = ""
    answer: int | None = None
    retry_after_s: float | None = None
    took_ms: int = 0


def database_now() -> datetime:
    """The one clock of all hosts."""
    found = fetch_one("SELECT clock_timestamp()", ())
    assert found is not None
    moment: datetime = found[0]
    return moment


def write(
    workspace_id: int,
    event: str,
    body: Mapping[str, Any],
    full: Mapping[str, Any] | None = None,
    *,
    job: UUID,
) -> None:
    """A message for each subscription to `event`. `full`: the body for those who want outputs."""
    params = {
        "workspace": workspace_id,
        "event": event,
        "job": job,
        "body": text_of(body),
        "full": text_of(full or body),
    }
    fetch(WRITE, params)


def write_one(
    subscription_id: int, event: str, body: str, *, job: UUID | None, message: UUID | None = None
) -> int:
    params = {
        "subscription": subscription_id,
        "event": event,
        "job": job,
        "body": body,
        "message": message,
    }
    row = fetch_one(WRITE_ONE, params)
    assert row is not None
    return int(row[0])


def text_of(body: Mapping[str, Any]) -> str:
    """The body as it is signed and sent."""
    return storable(json.dumps(body, ensure_ascii=False, separators=(",", ":")))


def take(lease_s: float) -> Turn | None:
    """The next subscription with something due that nobody else sends for."""
    row = fetch_one(TAKE, {"lease": lease_s})
    return Turn(*row) if row else None


def due(subscription_id: int, most: int) -> list[Due]:
    return [Due(*row) for row in fetch_named(DUE, (subscription_id, most))]


def move(
    delivery_id: int, event: DeliveryEventKind, found: Try, wait_s: float | None = None
) -> bool:
    """Note a try; False if the message has ended meanwhile. `wait_s`: until the next one."""
    params = {
        "id": delivery_id,
        "to": target(DELIVERY_TABLE, event),
        "sources": list(sources(DELIVERY_TABLE, event)),
        "answer": found.answer,
        "error": storable(found.error),
        "took": found.took_ms,
        "wait": wait_s,
    }
    return fetch_one(MOVE, params) is not None


def release(turn: Turn, failures: int, error: str, rest_s: float | None) -> None:
    """End a turn, unless it has run out and somebody else has the next one."""
    params = {
        "id": turn.subscription_id,
        "until": turn.until,
        "failures": failures,
        "error": storable(error),
        "rest": rest_s,
    }
    fetch(RELEASE, params)


def forget_beyond(subscription_id: int) -> None:
    """Keep the newest messages that have ended."""
    for event in (DeliveryEventKind.DELIVERED, DeliveryEventKind.GIVEN_UP):
        status = target(DELIVERY_TABLE, event)
        fetch(FORGET, {"id": subscription_id, "status": status, "kept": KEPT - 1})


def give_up_old() -> None:
    """Give up what has waited too long, or in too long a queue."""
    event = DeliveryEventKind.GIVEN_UP
    params = {
        "to": target(DELIVERY_TABLE, event),
        "sources": list(sources(DELIVERY_TABLE, event)),
        "why": GIVEN_UP,
        "most": MOST_WAITING,
        "hours": WAITING_HOURS,
    }
    fetch(GIVE_UP, params)


def forget_old() -> None:
    fetch(FORGET_OLD, (KEPT_DAYS,))
