"""Which workers are alive: the only definition, for sweeps, pages, API and `doctor`.

A worker is here until it leaves (`stopped_at`). Without a heartbeat for a while it is late; after
`heartbeat_timeout_secs` it is no longer alive, and the next sweep marks it as gone. The database's
clock decides.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from django.conf import settings
from django.db.models import (
    BooleanField,
    Case,
    DateTimeField,
    ExpressionWrapper,
    Func,
    Q,
    QuerySet,
    Value,
    When,
)

from apps.fleet.models import Scheduler, Worker

LATE_AFTER_S = 15.0


class WorkerState(StrEnum):
    """What pages show of a worker."""

    LIVE = "live"
    DRAINING = "draining"
    SILENT = "silent"  # late
    STOPPED = "stopped"


class ClockTimestamp(Func):
    function = "clock_timestamp"
    output_field = DateTimeField()


def gone_after_s() -> float:
    return float(settings.STROEM.recovery.heartbeat_timeout_s)


def seen_within(seconds: float) -> Q:
    return Q(heartbeat_at__gt=ClockTimestamp() - timedelta(seconds=seconds))


def is_alive() -> Q:
    return Q(stopped_at=None) & seen_within(gone_after_s())


def may_take_steps() -> Q:
    """Workers recent enough to take steps, also between two heartbeats."""
    return Q(stopped_at=None) & seen_within(gone_after_s() / 2)


def here() -> QuerySet[Worker]:
    """Workers that have not left, including late ones."""
    return Worker.objects.filter(stopped_at=None)


def alive() -> QuerySet[Worker]:
    return Worker.objects.filter(is_alive())


def overdue(after_s: float) -> QuerySet[Worker]:
    """Workers that have not left and sent no heartbeat for `after_s` seconds."""
    return here().exclude(seen_within(after_s))


def schedulers() -> QuerySet[Scheduler]:
    """Those that sweep: without one, nothing that crashed recovers."""
    silent_after_s = max(gone_after_s(), 2 * settings.STROEM.recovery.sweep_interval_s)
    return Scheduler.objects.filter(seen_within(silent_after_s))


def with_vitals(rows: QuerySet[Worker]) -> QuerySet[Worker]:
    """The rows with `is_alive` and `state`, a WorkerState."""
    late_after_s = min(LATE_AFTER_S, gone_after_s())
    state = Case(
        When(stopped_at__isnull=False, then=Value(WorkerState.STOPPED)),
        When(~seen_within(late_after_s), then=Value(WorkerState.SILENT)),
        When(drains_at__isnull=False, then=Value(WorkerState.DRAINING)),
        default=Value(WorkerState.LIVE),
    )
    return rows.annotate(state=state, is_alive=ExpressionWrapper(is_alive(), BooleanField()))
