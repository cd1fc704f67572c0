"""Which workers could run steps of a tag set, and what to tell the author when none could."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from apps.fleet import vitals
from apps.fleet.models import Worker
from engine.resources import Offer, split_tags, too_small

NOBODY = "No active worker with required tags to run this step"


@dataclass(frozen=True, slots=True)
class WorkerOffer:
    """A worker that was seen lately. `job_id`: it serves this job only."""

    tags: frozenset[str]
    offer: Offer
    job_id: UUID | None


def seen_workers(within_s: float | None, job_id: UUID | None = None) -> list[WorkerOffer]:
    """Workers that were seen within so many seconds, or ever, those that have left since included;
    only those of a job if one is named. What each offers is what it offered when it was seen last.

    One that has not left counts for as long as it may take steps without having been seen again:
    between two heartbeats it is there, however short `within_s` is.
    """
    rows = Worker.objects.all() if job_id is None else Worker.objects.filter(job_id=job_id)
    if within_s is not None:
        rows = rows.filter(vitals.seen_within(within_s) | vitals.may_take_steps())
    return [
        WorkerOffer(frozenset(tags), Offer.of(offers or {}, seen_at.timestamp()), job)
        for tags, offers, job, seen_at in rows.values_list(
            "tags", "offers", "job_id", "heartbeat_at"
        )
    ]


def misfit(key: str, workers: Iterable[WorkerOffer]) -> str | None:
    """Why none of these workers can run a step of the tag set `key`; None when one can."""
    tags, need = split_tags(key)
    fitting = [worker.offer for worker in workers if tags <= worker.tags]
    return too_small(need, fitting) if fitting else NOBODY
