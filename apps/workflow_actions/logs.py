"""The log of an action's run: in the job's own log, under a name that no step can have."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_one
from apps.jobs.log.chunks import record
from apps.workflow_actions.models import ActionRun, JobAction
from engine.orders import Line

PREFIX = "_action:"
# Attempts of steps count upwards from 1, and the server's own lines have 0: runs count downwards.
APPEND = """
WITH r AS (
    SELECT job_id, (started_at AT TIME ZONE 'UTC')::date AS day FROM workflow_actions_actionrun
    WHERE id = %(run)s AND fence = %(fence)s AND status = 'running'
),
i AS (
    INSERT INTO jobs_logchunk (day, attempt_id, seq, job_id, lines, line_count)
    SELECT r.day, -%(run)s::bigint, %(seq)s, r.job_id, %(lines)s, %(count)s FROM r
        ON CONFLICT DO NOTHING
)
SELECT 1 FROM r
"""
READ = "SELECT lines FROM jobs_logchunk WHERE job_id = %s AND attempt_id = %s ORDER BY seq"


def append(run_id: int, fence: int, label: str, seq: int, lines: Sequence[Line]) -> bool:
    """Store a batch; the same (run, seq) again changes nothing. False when the run is not the
    worker's any more."""
    params = {
        "run": run_id,
        "fence": fence,
        "seq": seq,
        "lines": "".join(record(line.at, line.stream, PREFIX + label, line.text) for line in lines),
        "count": len(lines),
    }
    return fetch_one(APPEND, params) is not None


def attempts_of(job_id: UUID, action_id: int) -> frozenset[int] | None:
    """What stands for an attempt in the log lines of this action's runs; None when the job has no
    such action."""
    if not JobAction.objects.filter(pk=action_id, job_id=job_id).exists():
        return None
    return frozenset(
        -run_id
        for run_id in ActionRun.objects.filter(action_id=action_id).values_list("pk", flat=True)
    )


def of_run(job_id: object, run_id: int) -> str:
    """The JSON lines of one run."""
    return "".join(row[0] for row in fetch(READ, (job_id, -run_id)))
