"""What a lost message, a dead worker or a process that died in between leaves behind of workflow
actions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError

from apps.fleet.matching import misfit, seen_workers
from apps.jobs import bells
from apps.jobs.database.sql import fetch, retried
from apps.jobs.flow import blueprints
from apps.jobs.models import Job
from apps.jobs.transitions import moves as step_pen
from apps.workflow_actions import aftermath, counting, services, sessions
from apps.workflow_actions import transitions as pen
from engine.errors import StroemError
from engine.spec.tags import SUBMITS

log = logging.getLogger("stroem.sweep")
BATCH = 500

LOST = """
SELECT r.id, r.fence, coalesce(w.name, r.worker_id::text) FROM workflow_actions_actionrun r
LEFT JOIN fleet_worker w ON w.id = r.worker_id
WHERE r.status = 'running' AND r.lease_until < clock_timestamp() ORDER BY r.id LIMIT %s
"""
WAITING = """
SELECT t.key, count(*) FROM workflow_actions_actionrun r JOIN fleet_tagset t ON t.id = r.tag_set_id
WHERE r.status = 'ready' AND r.due_at <= clock_timestamp() GROUP BY t.key
"""
# Only what others wait for: steps behind a barrier, steps that need nodes. Other commands wait for
# a worker.
NEGLECTED = """
SELECT r.id, t.key FROM workflow_actions_actionrun r JOIN fleet_tagset t ON t.id = r.tag_set_id
JOIN workflow_actions_jobaction a ON a.id = r.action_id
WHERE r.status = 'ready' AND r.due_at < clock_timestamp() - make_interval(secs => %s)
    AND r.bound_to IS NULL
    AND (a.is_barrier OR t.key LIKE %s) ORDER BY r.id LIMIT %s
"""
# Counted again from the rows: sets of running jobs that are complete and were not set off.
OVERLOOKED = """
SELECT DISTINCT a.job_id FROM workflow_actions_jobaction a
WHERE a.status = 'waiting' AND a.trigger_type IN ('on_jobs_ready', 'on_jobs_complete')
    AND NOT EXISTS (
    SELECT 1 FROM workflow_actions_member m JOIN jobs_step s ON s.job_id = m.job_id
        AND s.name = m.step_name
    WHERE m.action_id = a.id AND m.reached_at IS NULL
        AND s.status NOT IN ('completed', 'failed', 'skipped', 'cancelled')) LIMIT %s
"""


def lost_runs() -> int:
    """Runs whose lease ran out: their worker is gone, cut off or frozen."""
    rows = fetch(LOST, (BATCH,))
    for run_id, fence, worker in rows:
        _try(
            f"lost run {run_id}", partial(services.lose, run_id, fence, f"Worker {worker} was lost")
        )
    return len(rows)


def unsettled_actions() -> int:
    """Ended actions whose consequences a process did not live to see."""
    rows = fetch(
        "SELECT DISTINCT job_id FROM workflow_actions_jobaction WHERE NOT is_settled LIMIT %s",
        (BATCH,),
    )
    for (job_id,) in rows:
        _try(f"actions of {job_id}", partial(aftermath.settle, job_id))
    return len(rows)


def ring_ready() -> int:
    """Ring for runs that wait: a message that got lost costs one sweep."""
    waiting = {key: min(count, 4) for key, count in fetch(WAITING, ())}
    return bells.ring(waiting)


def neglected_runs() -> int:
    """Runs that steps wait for and that no worker could do for the whole time-out are failed."""
    timeout_s = settings.STROEM.recovery.unmatched_step_timeout_s
    rows = fetch(NEGLECTED, (timeout_s, f"%{SUBMITS}%", BATCH))
    if not rows:
        return 0
    served = [worker for worker in seen_workers(timeout_s) if worker.job_id is None]
    for run_id, key in rows:
        if misfit(key, served) is not None:
            _try(f"neglected run {run_id}", partial(_neglect, run_id, key))
    return len(rows)


@retried
def _neglect(run_id: int, key: str) -> None:
    tags = ", ".join(key.split("+"))
    error = f"No active worker with the tags {tags} to do this action"
    rows = fetch(
        "SELECT action_id, job_id FROM workflow_actions_actionrun WHERE id = %s", (run_id,)
    )
    for action_id, job_id in rows:
        if step_pen.lock(job_id) is None or not pen.drop_runs(
            [action_id], "failed", error, run_ids=[run_id]
        ):
            continue
        if pen.move_action(action_id, "failed", sources=("armed", "running"), reason=error):
            aftermath.after_commit(job_id)


def overlooked_sets() -> int:
    """Actions all of whose steps have ended: set off, if counting was missed."""
    rows = fetch(OVERLOOKED, (BATCH,))
    for (job_id,) in rows:
        _try(f"sets of {job_id}", partial(_recount, job_id))
    return len(rows)


@retried
def _recount(job_id: UUID) -> None:
    state = step_pen.lock(job_id)
    if state is None:
        return
    job = Job.objects.select_related("revision", "workspace").get(id=state.id)
    counting.recount(job, blueprints.load(state.blueprint_id), None)
    aftermath.after_commit(job.id)


def lost_sessions() -> int:
    return sessions.lose_orphans()


def _try(what: str, work: Callable[[], object]) -> None:
    try:
        work()
    except (StroemError, DatabaseError) as error:
        log.warning("%s: %s", what, error)


SWEEPS = (lost_runs, lost_sessions, unsettled_actions, neglected_runs, overlooked_sets, ring_ready)
