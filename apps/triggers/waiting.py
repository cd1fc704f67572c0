"""Goes on with firings that waited: for quiet, for the job before them, for their workspace to be
read again."""

from __future__ import annotations

import logging
from datetime import datetime

from django.db import DatabaseError

from apps.triggers import firing, transitions
from apps.triggers.models import Trigger
from apps.workspaces import services as workspaces
from engine.errors import StroemError

log = logging.getLogger("stroem.triggers")


def go_on_due(now: datetime | None = None) -> int:
    """Start what has waited long enough; returns how many."""
    now = now or transitions.database_now()
    done = 0
    blocked: set[int] = set()
    while found := [pair for pair in transitions.due_waiting(now) if pair[1] not in blocked]:
        for firing_id, trigger_id in found:
            if _go_on(firing_id, trigger_id, now):
                done += 1
            else:
                blocked.add(trigger_id)
    return done


def _go_on(firing_id: int, trigger_id: int, now: datetime) -> bool:
    try:
        trigger = Trigger.objects.select_related("workspace").get(pk=trigger_id)
        if trigger.is_live and trigger.described.options.get("force_refresh"):
            if not transitions.take_for_refresh(firing_id, now):
                return False  # another scheduler reads the workspace
            workspaces.refresh(trigger.workspace)  # if it fails, the last good revision counts
        return firing.resume(firing_id, trigger_id, now)
    except (DatabaseError, StroemError) as error:
        log.warning("firing %s: %s", firing_id, error)
        return False
