"""Which workers can run the steps of a tag set, and what to tell the author if none can."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db.models import BooleanField, ExpressionWrapper

from apps.fleet import vitals
from apps.fleet.models import Worker
from apps.fleet.reach import Groups, limits_of, read_limits
from engine.resources import Offer, split_tags, too_small
from engine.rights import matches
from engine.spec.tags import AGENTS

NOBODY = "No active worker with required tags to run this step"
NO_AGENTS = "No process for agents is running to perform this step: start `manage.py agents`"
MOST_GROUPS, MOST_NAMES = 5, 3  # of live workers in the sentence that follows


@dataclass(frozen=True, slots=True)
class WorkerOffer:
    """What a worker offers. `job_id`: it serves this job only. `workspaces`: groups of
    patterns, of which those that it serves match one each; empty: all."""

    name: str
    tags: frozenset[str]
    offer: Offer
    job_id: UUID | None
    is_alive: bool
    workspaces: Groups = ()

    def serves(self, workspace: str) -> bool:
        return all(
            any(matches(pattern, workspace) for pattern in group) for group in self.workspaces
        )


def seen_workers(within_s: float | None, job_id: UUID | None = None) -> list[WorkerOffer]:
    """Workers with a heartbeat in the last `within_s` seconds (None: ever), even if they have left
    since; with `job_id`, only workers of that job. Each counts with its latest offer.

    A worker that has not left also counts while it may take steps, so that a short `within_s` does
    not miss it between two heartbeats.
    """
    rows = Worker.objects.all() if job_id is None else Worker.objects.filter(job_id=job_id)
    if within_s is not None:
        rows = rows.filter(vitals.seen_within(within_s) | vitals.may_take_steps())
    limits = read_limits()
    rows = rows.annotate(lives=ExpressionWrapper(vitals.is_alive(), BooleanField()))
    return [
        WorkerOffer(
            name,
            frozenset(tags),
            Offer.of(offers or {}, at.timestamp()),
            job,
            is_alive,
            ((tuple(workspaces),) if workspaces else ()) + limits_of(name, limits),
        )
        for name, tags, offers, job, at, is_alive, workspaces in rows.values_list(
            "name", "tags", "offers", "job_id", "heartbeat_at", "lives", "workspaces"
        )
    ]


def misfit(key: str, workers: Iterable[WorkerOffer], workspace: str | None = None) -> str | None:
    """Why none of these workers can run a step of the tag set `key`; None when one can.
    `workspace`: the step's; None asks for the tags alone."""
    known = list(workers)
    tags, need = split_tags(key)
    fitting = [worker for worker in known if tags <= worker.tags]
    if not fitting and AGENTS in tags:
        return NO_AGENTS
    if not fitting:
        return f"{NOBODY}. {_lacking(tags, known)}"
    serving = [each.offer for each in fitting if workspace is None or each.serves(workspace)]
    return (
        too_small(need, serving)
        if serving
        else f"{NOBODY}. Of those with its tags, {_not_served(workspace, fitting)}"
    )


def takers(key: str, workspace: str) -> list[str]:
    """The names of live workers that can run steps of the tag set `key`, sorted."""
    live = [each for each in seen_workers(0.0) if each.is_alive and each.job_id is None]
    return sorted({each.name for each in live if misfit(key, [each], workspace) is None})


def unserved(workspace: str) -> str | None:
    """A warning if workers live, but none of them serves this workspace; else None."""
    live = [each for each in seen_workers(0.0) if each.job_id is None and AGENTS not in each.tags]
    if not live or any(each.serves(workspace) for each in live):
        return None
    return (
        f"warning: of the live workers, {_not_served(workspace, live)}. Its steps will"
        " wait for one that does (`workspaces` in the worker's configuration)"
    )


def _not_served(workspace: str | None, workers: Sequence[WorkerOffer]) -> str:
    """Which workspaces the workers with the right tags serve instead."""
    said = sorted({f"{each.name} serves {_shown(each.workspaces)}" for each in workers})
    more = f"; and {len(said) - MOST_NAMES} more" if len(said) > MOST_NAMES else ""
    return f"none serves the workspace '{workspace}': {'; '.join(said[:MOST_NAMES])}{more}"


def _shown(groups: Groups) -> str:
    return " within ".join(", ".join(group) for group in groups)


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
