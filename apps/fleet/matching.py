"""Which workers can run the steps of a tag set, and what to tell the author if none can."""

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
    """What a worker offers. `job_id`: it serves this job only."""

    tags: frozenset[str]
    offer: Offer
    job_id: UUID | None


def seen_workers(within_s: float | None, job_id: UUID | None = None) -> list[WorkerOffer]:
    """Workers with a heartbeat in the last `within_s` seconds (None: ever), even if they have left
    since; with `job_id`, only workers of that job. Each counts with its latest offer.

    A worker that has not left also counts while it may take steps, so that a short `within_s` does
    not miss it between two heartbeats.
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
