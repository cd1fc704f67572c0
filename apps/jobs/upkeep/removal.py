"""Removes a workspace with all its jobs, as an operator asks for it."""

from __future__ import annotations

from contextlib import suppress

from apps.jobs.database.sql import fetch
from apps.jobs.flow import cancellation
from apps.jobs.flow.starting import CONSUMER
from apps.jobs.models import Job
from apps.jobs.upkeep.retention import BATCH, NOTHING, remove_tree
from apps.workspaces import removal
from apps.workspaces.models import Workspace
from engine.errors import Conflict
from engine.lifecycle import OPEN_JOB

ROOTS = """
SELECT j.id FROM jobs_job j
WHERE j.workspace_id = %s AND j.id > %s
    AND NOT EXISTS (SELECT 1 FROM jobs_job p WHERE p.id = j.parent_job_id)
ORDER BY j.id LIMIT %s
"""


def remove_workspace(name: str) -> int:
    """Remove a workspace with its jobs, revisions and stored secrets; returns how many jobs.

    Raises NotFound, or Conflict while jobs are open and where the settings define the workspace.
    Interrupted, it can be called again.
    """
    row = removal.removable(name)
    _refuse_open_jobs(row, but=CONSUMER)
    removal.close(row)
    _stop_consumers(row)
    removed, last = 0, NOTHING
    while roots := fetch(ROOTS, (row.pk, last, BATCH)):
        removed += sum(remove_tree(root, 0) for (root,) in roots)
        last = roots[-1][0]
    _refuse_open_jobs(row)
    removal.remove(row)
    return removed


def _stop_consumers(row: Workspace) -> None:
    """They never end by themselves. Raises Conflict while one is ending."""
    found = Job.objects.filter(workspace=row, status__in=OPEN_JOB, source_type=CONSUMER)
    for job_id in found.values_list("id", flat=True):
        with suppress(Conflict):  # it has ended in the meantime
            cancellation.cancel(job_id, actor="", reason="The workspace is being removed")
    if found.exists():
        raise Conflict(
            f"the event sources of workspace '{row.name}' are being stopped: remove it again in a"
            " moment"
        )


def _refuse_open_jobs(row: Workspace, *, but: str = "") -> None:
    rows = Job.objects.filter(workspace=row, status__in=OPEN_JOB).exclude(source_type=but)
    number = rows.count()
    if number:
        some = "1 job has" if number == 1 else f"{number} jobs have"
        raise Conflict(f"{some} not ended in workspace '{row.name}': cancel what runs there first")
