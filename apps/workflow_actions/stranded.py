"""Workers of allocations that have ended: what they had is lost at once, not when its lease ends.

Slurm says that an allocation has ended when none of its processes is left. Only of a dead node
nobody can know that: then its workers must have been silent for a while too.
"""

from __future__ import annotations

from uuid import UUID

from apps.fleet import presence, reach, vitals
from apps.jobs import bells
from apps.jobs.database.sql import fetch
from apps.jobs.flow import finishing
from apps.workflow_actions import sessions
from engine import slurm_script, slurm_states

SILENT_SHARE = 3  # of the time after which a silent worker is lost anyway
WORKERS = """
SELECT w.id, w.name, a.error, a.state, a.script FROM fleet_worker w JOIN fleet_allocation a
    ON a.job_id = w.job_id AND a.slurm_job_id <> ''
    AND w.name LIKE 'slurm-' || a.slurm_job_id || '-%%'
WHERE w.stopped_at IS NULL AND (%(allocation)s::uuid IS NULL OR a.id = %(allocation)s)
    AND (a.status IN ('complete', 'failed') OR (a.status IN ('lost', 'pending')
        AND w.heartbeat_at < clock_timestamp() - make_interval(secs => %(silent_s)s)))
LIMIT 200
"""
ATTEMPTS = "SELECT id FROM jobs_attempt WHERE worker_id = %s AND ended_at IS NULL ORDER BY id"


def lose_workers(allocation_id: UUID | None = None) -> int:
    """Count the workers of ended allocations (or of this one) as lost, with all that they had."""
    silent_s = vitals.gone_after_s() / SILENT_SHARE
    rows = fetch(WORKERS, {"allocation": allocation_id, "silent_s": silent_s})
    for worker_id, name, error, state, script in rows:
        why = error or f"Slurm says {state}"
        why += slurm_states.hint(state, slurm_script.walltime_in(script))
        for (attempt_id,) in fetch(ATTEMPTS, (worker_id,)):
            _, ready = finishing.lose(attempt_id, reason=f"Worker {name} was lost: {why}")
            bells.ring({key: ready[id] for id, key in reach.keys_of(ready).items()})
        presence.retire(worker_id)
    if rows:
        sessions.lose_orphans()
    return len(rows)
