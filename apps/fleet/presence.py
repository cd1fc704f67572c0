"""Workers come, are seen, and leave."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from django.db import connection
from django.db.migrations.executor import MigrationExecutor

REGISTER = """
INSERT INTO fleet_worker (id, name, tags, slots, busy, version, hostname, pid, offers, job_id,
    started_at, heartbeat_at)
VALUES (%s, %s, %s, %s, 0, %s, %s, %s, %s::jsonb, %s, clock_timestamp(), clock_timestamp())
"""


BEAT = """
UPDATE fleet_worker SET heartbeat_at = clock_timestamp(), busy = %(busy)s
WHERE id = %(worker)s AND stopped_at IS NULL RETURNING id
"""


def register(
    *,
    name: str,
    tags: Sequence[str],
    slots: int,
    version: str,
    offers: Mapping[str, Any],
    job_id: UUID | None,
) -> UUID:
    worker_id = uuid4()
    values = [
        worker_id,
        name,
        list(tags),
        slots,
        version,
        socket.gethostname(),
        os.getpid(),
        json.dumps(offers),
        job_id,
    ]
    with connection.cursor() as cursor:
        cursor.execute(REGISTER, values)
    return worker_id


def retire(worker_id: UUID) -> None:
    """Mark a worker as gone. Its attempts, if any are left, run out by their leases."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE fleet_worker SET stopped_at = clock_timestamp(), busy = 0 WHERE id = %s AND"
            " stopped_at IS NULL",
            [worker_id],
        )


def mark_dead(after_s: float) -> int:
    """Workers that were not seen for so long count as gone."""
    with connection.cursor() as cursor:
        cursor.execute(
            """
            UPDATE fleet_worker SET stopped_at = clock_timestamp(), busy = 0
            WHERE stopped_at IS NULL
                AND heartbeat_at < clock_timestamp() - make_interval(secs => %s)
            """,
            [after_s],
        )
        return cursor.rowcount


def remove_old(hours: float) -> int:
    """Remove workers that left, or were last seen, more than `hours` ago."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM fleet_worker WHERE stopped_at < clock_timestamp() - make_interval(secs"
            " => %s)",
            [hours * 3600],
        )
        return cursor.rowcount


def schema_problem() -> str | None:
    """One sentence when the database has migrations that this code lacks, or lacks some that it
    has."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    missing = [f"{migration.app_label}.{migration.name}" for migration, _ in plan]
    if missing:
        return (
            f"the database lacks migrations ({', '.join(missing[:3])}); run `manage.py migrate` or"
            " `manage.py up` first"
        )
    ours = {"accounts", "workspaces", "fleet", "jobs", "approvals", "hooks", "workflow_actions"}
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
