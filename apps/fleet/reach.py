"""What a worker may take: the tag sets that its tags cover, in the workspaces that it serves.

A tag set is one row, one queue and one routing key for each distinct set of required tags.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from django.db import transaction

from apps.fleet.models import TagSet, Worker, WorkerLimit
from engine.resources import split_tags
from engine.rights import matches
from engine.spec.tags import ACTIONS, AGENTS, action_keys

Groups = tuple[tuple[str, ...], ...]
Limit = tuple[str, Sequence[str]]  # patterns of workers, and of the workspaces that they may serve
LIMITS = "SELECT workers, workspaces FROM fleet_workerlimit"

_ids: dict[str, int] = {}
_keys: dict[int, str] = {}


def tag_set_ids(keys: Iterable[str]) -> dict[str, int]:
    """Ids of tag sets by key; missing ones are created. Rows are never deleted, so ids are
    cached."""
    wanted = set(keys)
    missing = wanted - _ids.keys()
    if missing:
        fresh = [TagSet(key=key, tags=sorted(split_tags(key)[0])) for key in sorted(missing)]
        TagSet.objects.bulk_create(fresh, ignore_conflicts=True)
        found = {
            key: id for id, key in TagSet.objects.filter(key__in=missing).values_list("id", "key")
        }
        # cache after the commit only: a rollback removes new rows
        transaction.on_commit(partial(_keep, found))
        return {key: found.get(key) or _ids[key] for key in wanted}
    return {key: _ids[key] for key in wanted}


def _keep(found: dict[str, int]) -> None:
    for key, id in found.items():
        _ids[key], _keys[id] = id, key


def keys_of(ids: Iterable[int]) -> dict[int, str]:
    """Keys of tag sets by id."""
    wanted = set(ids)
    missing = wanted - _keys.keys()
    if missing:
        for id, key in TagSet.objects.filter(id__in=missing).values_list("id", "key"):
            _ids[key], _keys[id] = id, key
    return {id: _keys[id] for id in wanted}


def covered(tags: Collection[str]) -> dict[int, str]:
    """Tag sets (id -> key) of steps whose tags are all among these."""
    have = set(tags) - {ACTIONS, AGENTS}
    return {
        id: key for id, key in TagSet.objects.values_list("id", "key") if split_tags(key)[0] <= have
    }


def covered_actions(tags: Collection[str]) -> dict[int, str]:
    """Tag sets (id -> key) of workflow actions that a worker with these tags may do."""
    return {id: key for key, id in tag_set_ids(action_keys(tags)).items()}


def of_agents() -> dict[int, str]:
    """The tag set (id -> key) of agent steps."""
    return {id: key for key, id in tag_set_ids([AGENTS]).items()}


def is_of_actions(tag_set_id: int) -> bool:
    return keys_of([tag_set_id])[tag_set_id].startswith(ACTIONS)


def forget() -> None:
    """Empty the cache, for tests that start over with an empty database."""
    _ids.clear()
    _keys.clear()


# Workspaces


@dataclass(slots=True)
class _Serving:
    """`own` never changes; `within` is what operators allow, as of the last heartbeat."""

    name: str
    own: tuple[str, ...]
    within: Groups


_known: dict[UUID, _Serving] = {}  # workers of this process


def workspaces_of(worker_id: UUID) -> Groups:
    """Groups of patterns: the worker serves the workspaces that match one of each; empty: all."""
    known = _known.get(worker_id)
    if known is None:
        worker = Worker.objects.filter(id=worker_id).only("name", "workspaces").first()
        if worker is None:
            return ()
        within = limits_of(worker.name, read_limits())
        known = _known[worker_id] = _Serving(worker.name, tuple(worker.workspaces or ()), within)
    return (known.own, *known.within) if known.own else known.within


def heed(worker_id: UUID, limits: Iterable[Limit]) -> None:
    """Apply what operators allow now to the worker's next claims."""
    if (known := _known.get(worker_id)) is not None:
        known.within = limits_of(known.name, limits)


def read_limits() -> list[Limit]:
    return list(WorkerLimit.objects.values_list("workers", "workspaces"))


def limits_of(name: str, limits: Iterable[Limit]) -> Groups:
    """The groups of patterns that operators set for workers of this name."""
    return tuple(tuple(workspaces) for workers, workspaces in limits if matches(workers, name))


def let_go(worker_id: UUID) -> None:
    """Forget a worker of this process that has left."""
    _known.pop(worker_id, None)
