"""Which workers can run the steps of a tag set, and what to tell the author if none can."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import BooleanField, ExpressionWrapper

from apps.fleet import vitals
from apps.fleet.models import Worker
from engine.resources import Offer, split_tags, too_small

NOBODY = "No active worker with required tags to run this step"
MOST_GROUPS, MOST_NAMES = 5, 3  # of live workers in the sentence that follows


@dataclass(frozen=True, slots=True)
class WorkerOffer:
    """What a worker offers. `job_id`: it serves this job only."""

    name: str
    tags: frozenset[str]
    offer: Offer
    job_id: UUID | None
    is_alive: bool


def seen_workers(within_s: float | None, job_id: UUID | None = None) -> list[WorkerOffer]:
    """Workers with a heartbeat in the last `within_s` seconds (None: ever), even if they have left
    since; with `job_id`, only workers of that job. Each counts with its latest offer.

    A worker that has not left also counts while it may take steps, so that a short `within_s` does
    not miss it between two heartbeats.
    """
    rows = Worker.objects.all() if job_id is None else Worker.objects.filter(job_id=job_id)
    if within_s is not None:
        rows = rows.filter(vitals.seen_within(within_s) | vitals.may_take_steps())
    rows = rows.annotate(lives=ExpressionWrapper(vitals.is_alive(), BooleanField()))
    return [
        WorkerOffer(name, frozenset(tags), Offer.of(offers or {}, at.timestamp()), job, is_alive)
        for name, tags, offers, job, at, is_alive in rows.values_list(
            "name", "tags", "offers", "job_id", "heartbeat_at", "lives"
        )
    ]


def misfit(key: str, workers: Iterable[WorkerOffer]) -> str | None:
    """Why none of these workers can run a step of the tag set `key`; None when one can."""
    known = list(workers)
    tags, need = split_tags(key)
    fitting = [worker.offer for worker in known if tags <= worker.tags]
    return too_small(need, fitting) if fitting else f"{NOBODY}. {_lacking(tags, known)}"


def _lacking(tags: frozenset[str], workers: Sequence[WorkerOffer]) -> str:
    """What the step needs, and what each live worker lacks of it; those that lack least first."""
    groups: defaultdict[tuple[str, ...], set[str]] = defaultdict(set)
    for worker in workers:
        if worker.is_alive:
            groups[tuple(sorted(tags - worker.tags))].add(worker.name)
    needs = f"It needs {', '.join(sorted(tags))}"
    if not groups:
        return f"{needs}; no worker is alive"
    said = [
        f"{_names(groups[missing])} {', '.join(missing)}"
        for missing in sorted(groups, key=lambda missing: (len(missing), missing))[:MOST_GROUPS]
    ]
    more = len(groups) - len(said)
    return f"{needs}; of the live workers, {'; '.join(said)}" + (
        f"; and others lack more ({more} other sets of tags)" if more else ""
    )


def _names(names: Collection[str]) -> str:
    shown, more = ", ".join(sorted(names)[:MOST_NAMES]), len(names) - MOST_NAMES
    return f"{shown}{f' and {more} more' if more > 0 else ''} lack{'s' if len(names) == 1 else ''}"
