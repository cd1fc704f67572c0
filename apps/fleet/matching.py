"""Which workers could run steps of a tag set, and what to tell the author when none could."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection

from engine.resources import Offer, split_tags, too_small

NOBODY = "No active worker with required tags to run this step"
SEEN = """
SELECT tags, offers, job_id, stopped_at IS NULL, extract(epoch FROM heartbeat_at) FROM fleet_worker
WHERE (%(within_s)s::float IS NULL
    OR heartbeat_at > clock_timestamp() - make_interval(secs => %(within_s)s::float)
        OR (stopped_at IS NULL
            AND heartbeat_at > clock_timestamp() - make_interval(secs => %(alive_s)s::float)))
    AND (%(job_id)s::uuid IS NULL OR job_id = %(job_id)s)
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A worker that was seen lately. `job_id`: it serves this job only."""

    tags: frozenset[str]
    offer: Offer
    job_id: UUID | None
    is_live: bool


def seen_workers(within_s: float | None, job_id: UUID | None = None) -> list[Seen]:
    """Workers that were seen within so many seconds, or ever, those that have left since included;
    only those of a job if one is named. What each offers is what it offered when it was seen last.

    One that has not left counts for as long as it may take steps without having been seen again:
    between two heartbeats it is there, however short `within_s` is.
    """
    alive_s = float(settings.STROEM.recovery.heartbeat_timeout_s) / 2
    with connection.cursor() as cursor:
        cursor.execute(SEEN, {"within_s": within_s, "alive_s": alive_s, "job_id": job_id})
        return [
            Seen(frozenset(tags), Offer.of(_plain(offers), float(seen_at)), job, live)
            for tags, offers, job, live, seen_at in cursor
        ]


def _plain(offers: Any) -> dict[str, float]:
    return dict(json.loads(offers) if isinstance(offers, str) else offers or {})


def misfit(key: str, workers: Iterable[Seen]) -> str | None:
    """Why none of these workers can run a step of the tag set `key`; None when one can."""
    tags, need = split_tags(key)
    fitting = [worker.offer for worker in workers if tags <= worker.tags]
    return too_small(need, fitting) if fitting else NOBODY
