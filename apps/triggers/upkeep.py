"""Phases of the sweep: rows that fell out of step, and history that nobody reads any more."""

from __future__ import annotations

from django.db import transaction

from apps.jobs.database.sql import fetch
from apps.triggers import roster
from apps.workspaces.models import Workspace
from apps.workspaces.revisions import definition_of

KEPT = 500  # firings per trigger
KEYS_DAYS = 1
OUT_OF_STEP = """
SELECT w.id FROM workspaces_workspace w JOIN triggers_trigger t ON t.workspace_id = w.id
WHERE w.current_id IS NULL AND t.is_listed GROUP BY w.id
"""
OLD_FIRINGS = """
DELETE FROM triggers_firing f USING (
    SELECT id FROM (
        SELECT id, status, created_at,
            row_number() OVER (PARTITION BY trigger_id ORDER BY created_at DESC, id DESC) AS rank
        FROM triggers_firing
    ) numbered
    WHERE rank > %s AND status NOT IN ('waiting', 'dead')
        AND created_at < clock_timestamp() - interval '30 days'
) old WHERE f.id = old.id
"""
OLD_KEYS = """
DELETE FROM triggers_startkey WHERE created_at < clock_timestamp() - make_interval(days => %s)
"""


def follow_revisions() -> int:
    """Stop the triggers of workspaces that have no revision in force any more."""
    found = [workspace_id for (workspace_id,) in fetch(OUT_OF_STEP, ())]
    for workspace in Workspace.objects.filter(pk__in=found):
        with transaction.atomic():
            roster.follow(workspace, None)
    return len(found)


def follow_all() -> None:
    """Bring all rows in step when a scheduler starts: an older version knew no triggers, or other
    ones."""
    for key in Workspace.objects.values_list("pk", flat=True):
        with transaction.atomic():
            rows = Workspace.objects.select_for_update(no_key=True, of=("self",))
            workspace = rows.filter(pk=key).first()
            if workspace is not None and workspace.current_id is not None:
                roster.follow(workspace, definition_of(workspace.current_id))


def forget_old() -> None:
    """Forget firings beyond the newest of each trigger, after a month, and old keys of starts."""
    fetch(OLD_FIRINGS, (KEPT,))
    fetch(OLD_KEYS, (KEYS_DAYS,))
