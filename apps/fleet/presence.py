"""Workers register and leave; workers must fit the database schema."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from apps.fleet import reach, vitals
from apps.fleet.models import Scheduler, Worker

BEAT = """
UPDATE fleet_worker SET heartbeat_at = clock_timestamp(), busy = %(busy)s
WHERE id = %(worker)s AND stopped_at IS NULL RETURNING id
"""
SCHEDULER_BEATS = """
INSERT INTO fleet_scheduler (id, hostname, pid, started_at, heartbeat_at)
VALUES (%s, %s, %s, clock_timestamp(), clock_timestamp())
ON CONFLICT (id) DO UPDATE SET heartbeat_at = clock_timestamp()
"""


def register(
    *,
    name: str,
    tags: Sequence[str],
    slots: int,
    version: str,
    offers: Mapping[str, Any],
    job_id: UUID | None,
    workspaces: Sequence[str] = (),
) -> UUID:
    now = vitals.ClockTimestamp()
    worker = Worker.objects.create(
        name=name,
        tags=list(tags),
        slots=slots,
        version=version,
        hostname=socket.gethostname(),
        pid=os.getpid(),
        offers=dict(offers),
        job_id=job_id,
        workspaces=list(workspaces) or None,
        started_at=now,
        heartbeat_at=now,
    )
    return worker.id


def retire(worker_id: UUID) -> None:
    """Mark a worker as gone. Leases of the attempts it left behind expire."""
    vitals.here().filter(id=worker_id).update(stopped_at=vitals.ClockTimestamp(), busy=0)
    reach.let_go(worker_id)


def mark_dead(after_s: float) -> int:
    """Mark workers without a heartbeat for `after_s` seconds as gone."""
    return vitals.overdue(after_s).update(stopped_at=vitals.ClockTimestamp(), busy=0)


def scheduler_beats(scheduler_id: UUID) -> None:
    """This process sweeps: `scheduler_id` names this start of it."""
    with connection.cursor() as cursor:
        cursor.execute(SCHEDULER_BEATS, [scheduler_id, socket.gethostname(), os.getpid()])


def forget_schedulers(hours: int = 24) -> int:
    before = vitals.ClockTimestamp() - timedelta(hours=hours)
    return Scheduler.objects.filter(heartbeat_at__lt=before).delete()[0]


def remove_old(hours: float) -> int:
    """Remove workers that left, or were last seen, more than `hours` ago."""
    before = vitals.ClockTimestamp() - timedelta(hours=hours)
    return Worker.objects.filter(stopped_at__lt=before).delete()[0]


def missing_migrations(executor: MigrationExecutor | None = None) -> list[str]:
    """Migrations of this code that the database lacks."""
    executor = executor or MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def schema_problem() -> str | None:
    """Which migrations the database or this code lacks, as a sentence; None if they agree."""
    executor = MigrationExecutor(connection)
    missing = missing_migrations(executor)
    if missing:
        return (
            f"the database lacks migrations ({', '.join(missing[:3])}); run `manage.py migrate` or"
            " `manage.py up` first"
        )
    ours = {
        "accounts", "agents", "approvals", "fleet", "hooks", "jobs", "triggers",
        "workflow_actions", "workspaces",
    }  # fmt: skip
    known = executor.loader.disk_migrations or {}
    newer = sorted(
        f"{app}.{name}"
        for app, name in executor.loader.applied_migrations
        if app in ours and (app, name) not in known
    )
    if newer:
        return (
            f"the database is newer than this code (it has {', '.join(newer[:3])}); update this"
            " worker"
        )
    return None
