"""Tag sets: one row, one queue and one routing key for each distinct set of required tags."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import partial

from django.db import transaction

from apps.fleet.models import TagSet
from engine.resources import split_tags
from engine.spec.tags import ACTIONS, AGENTS, action_keys

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
