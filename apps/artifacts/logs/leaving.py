"""Lines in the storage come to their end: with their job, by age, or because their workspace has
too many. Rows go first; the bytes when no row names their volume, see `blobs.clear_unused`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import Now

from apps.artifacts.models import JobLog, LogFrame
from apps.artifacts.values import Bound, tighter
from apps.jobs.log import moving
from apps.jobs.transitions.moves import say
from apps.jobs.upkeep.kin import busy
from apps.workspaces.models import Workspace

log = logging.getLogger("stroem.logs")
BATCH = 100
DAY_S = 86_400


def on_removal(job_ids: Sequence[UUID]) -> None:
    """Their jobs are being removed."""
    LogFrame.objects.filter(job_id__in=job_ids)._raw_delete("default")
    JobLog.objects.filter(job_id__in=job_ids)._raw_delete("default")


def expire() -> int:
    """Remove the lines of jobs that `logs.retain` and `logs.workspace_mb` no longer keep, those of
    the settings or of the workspace's files, the oldest first; returns of how many jobs. Nothing of
    a job that something open belongs to."""
    removed = 0
    rows = Workspace.objects.values_list("pk", "name", "current__definition__logs")
    for workspace_id, name, own in rows:
        kept_s, kept_bytes = settings.STROEM.logs.limits_of(name)
        retain, most = tighter(own, kept_s, kept_bytes)
        found = _removable(workspace_id)
        if retain is not None:
            old = found.filter(ended_at__lt=Now() - timedelta(seconds=retain.amount))
            why = f"{retain.source('logs.retain')} keeps them for {retain.amount / DAY_S:g} days"
            removed += sum(1 for _ in _remove(old, why))
        if most is not None:
            removed += _shrink(workspace_id, most)
    return removed


def _shrink(workspace_id: int, most: Bound) -> int:
    most_bytes = int(most.amount)
    total = JobLog.objects.filter(workspace_id=workspace_id, size_bytes__gt=0).aggregate(
        bytes=Sum("size_bytes")
    )["bytes"]
    excess, removed = (total or 0) - most_bytes, 0
    if excess <= 0:
        return 0
    why = f"{most.source('logs.workspace_mb')} keeps {most_bytes >> 20:,} MB of the workspace"
    for freed in _remove(_removable(workspace_id), why):
        removed, excess = removed + 1, excess - freed
        if excess <= 0:
            break
    return removed


def _removable(workspace_id: int) -> QuerySet[JobLog]:
    """Those with lines, unless all that has come since their removal is the note of it."""
    fresh = Q(removed_at__isnull=True) | Q(ended_at__gt=F("removed_at"))
    return JobLog.objects.filter(fresh, workspace_id=workspace_id, size_bytes__gt=0)


def _remove(found: QuerySet[JobLog], why: str) -> Iterator[int]:
    """Remove them in small batches, each job in a transaction of its own; how many bytes went with
    each."""
    after: tuple[object, ...] = ()
    ordered = found.order_by("ended_at", "job_id")
    while rows := list((ordered.filter(_behind(after)) if after else ordered)[:BATCH]):
        kept = busy([row.job_id for row in rows])
        for row in rows:
            if row.job_id not in kept and (freed := _remove_lines(row.job_id, why)):
                yield freed
        after = (rows[-1].ended_at, rows[-1].job_id)


def _behind(after: tuple[object, ...]) -> Q:
    return Q(ended_at__gt=after[0]) | Q(ended_at=after[0], job_id__gt=after[1])


@transaction.atomic
def _remove_lines(job_id: UUID, why: str) -> int:
    """The log says from then on what it has lost."""
    if not moving.hold_ended(job_id):
        return 0
    row = JobLog.objects.select_for_update().filter(job_id=job_id).first()
    if row is None:
        return 0
    LogFrame.objects.filter(job_id=job_id)._raw_delete("default")
    freed, lines = row.size_bytes, row.line_count
    JobLog.objects.filter(job_id=job_id).update(
        line_count=0,
        raw_bytes=0,
        size_bytes=0,
        removed_lines=F("removed_lines") + lines,
        removed_at=Now(),
    )
    told = "1 line of this log was" if lines == 1 else f"{lines:,} lines of this log were"
    say(job_id, f"[server] {told} removed: {why}", at=time.time())
    log.info("job %s: %s removed: %s", job_id, told, why)
    return freed
