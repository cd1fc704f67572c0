"""Definitions of revisions, cached in memory: revisions never change."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection

from apps.workspaces.models import Revision
from engine.spec import freeze
from engine.spec.model import Workspace as Definition

_MOST = 200
_known: OrderedDict[int, Definition] = OrderedDict()
_lock = threading.Lock()


def definitions_of(revision_ids: Collection[int]) -> dict[int, Definition]:
    """The definition of each revision, without secret values; one query for all that are not
    cached."""
    with _lock:
        found = {key: _known[key] for key in revision_ids if key in _known}
    missing = set(revision_ids) - set(found)
    if missing:
        rows = Revision.objects.filter(pk__in=missing).values_list("pk", "definition")
        fresh = {key: freeze.workspace_from_json(content) for key, content in rows}
        _remember(fresh)
        found |= fresh
    return found


def definition_of(revision_id: int) -> Definition:
    """The definition of one revision, without secret values."""
    return definitions_of([revision_id])[revision_id]


def forget(revision_id: int) -> None:
    with _lock:
        _known.pop(revision_id, None)


def _remember(fresh: dict[int, Definition]) -> None:
    with _lock:
        for key, definition in fresh.items():
            _known[key] = definition
            _known.move_to_end(key)
        while len(_known) > _MOST:
            _known.popitem(last=False)
