"""Repairs workflow actions after a lost message, a dead worker or a process that died halfway."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError

from apps.fleet.matching import misfit, seen_workers
from apps.jobs.database.sql import fetch, retried
from apps.jobs.flow import blueprints
from apps.jobs.models import Job
from apps.jobs.transitions import moves as step_pen
from apps.jobs.transitions import units
from apps.workflow_actions import (
    aftermath,
    again,
    counting,
    expectations,
    places,
    sessions,
    stranded,
)
from apps.workflow_actions import transitions as pen
from apps.workflow_actions.models import JobAction
from engine.errors import StroemError
from engine.lifecycle import ActionEventKind, StepEventKind
from engine.spec.tags import ACTIONS, SLURM_PREFIX, SUBMITS

log = logging.getLogger("stroem.sweep")
BATCH = 500
ON_NODES = f"%{SLURM_PREFIX}%"  # in the tag sets of commands for nodes

# Only units that steps wait for, behind a barrier or for nodes. Other commands wait for a worker.
NEGLECTED = """
SELECT u.id, u.job_id, u.owner_id, t.key FROM jobs_step u JOIN fleet_tagset t ON t.id = u.tag_set_id
JOIN workflow_actions_jobaction a ON a.id = u.owner_id
WHERE u.status = 'ready' AND u.owner_kind = 'action' AND u.bound_to IS NULL
    AND u.ready_at < clock_timestamp() - make_interval(secs => %s)
    AND (a.is_barrier OR t.key LIKE %s) AND t.key NOT LIKE %s ORDER BY u.id LIMIT %s
"""
# Commands that wait for a worker on a node of their job, which has none.
ASHORE = """
SELECT u.id, u.job_id, u.owner_id FROM jobs_step u JOIN fleet_tagset t ON t.id = u.tag_set_id
WHERE u.status = 'ready' AND u.owner_kind = 'action' AND u.bound_to IS NULL AND t.key LIKE %s
    AND NOT EXISTS (SELECT 1 FROM fleet_allocation a WHERE a.job_id = u.job_id
        AND a.status IN ('requested', 'pending', 'active') AND a.cancel_requested_at IS NULL)
ORDER BY u.id LIMIT %s
"""
# Sets of running jobs that are complete by their rows but were not set off.
OVERLOOKED = """
SELECT DISTINCT a.job_id FROM workflow_actions_jobaction a
WHERE a.status = 'waiting' AND a.trigger_type IN ('on_jobs_ready', 'on_jobs_complete')
    AND NOT EXISTS (
    SELECT 1 FROM workflow_actions_member m JOIN jobs_step s ON s.job_id = m.job_id
        AND s.name = m.step_name
    WHERE m.action_id = a.id AND m.reached_at IS NULL
        AND s.status NOT IN ('completed', 'failed', 'skipped', 'cancelled')) LIMIT %s
"""


def unsettled_actions() -> int:
    """Follow up on ended actions whose process died before it could."""
    rows = fetch(
        "SELECT DISTINCT job_id FROM workflow_actions_jobaction WHERE NOT is_settled LIMIT %s",
        (BATCH,),
    )
    for (job_id,) in rows:
        _try(f"actions of {job_id}", partial(aftermath.settle, job_id))
    return len(rows)


def neglected_units() -> int:
    """Fail units that steps wait for and that no worker could do for the whole time-out."""
    timeout_s = settings.STROEM.recovery.unmatched_step_timeout_s
    rows = fetch(NEGLECTED, (timeout_s, f"%{SUBMITS}%", ON_NODES, BATCH))
    if not rows:
        return 0
    served = [worker for worker in seen_workers(timeout_s) if worker.job_id is None]
    for unit_id, job_id, action_id, key in rows:
        wanted = key.removeprefix(f"{ACTIONS}+")
        if misfit(wanted, served, expectations.workspace_of(job_id, served)) is not None:
            lacks_place = misfit(wanted, served) is None
            what = partial(_neglect, unit_id, job_id, action_id, wanted, lacks_place=lacks_place)
            _try(f"neglected unit {unit_id}", what)
    return len(rows)


@retried
def _neglect(unit_id: int, job_id: UUID, action_id: int, key: str, *, lacks_place: bool) -> None:
    error = f"No active worker with the tags {', '.join(key.split('+'))} to run this action"
    if lacks_place:
        error += ": those with the tags serve other workspaces"
    if not units.drop(job_id, [unit_id], StepEventKind.FAILED, error):
        return
    if pen.move_action(action_id, ActionEventKind.FAILED, reason=error):
        aftermath.after_commit(job_id)


def ashore_units() -> int:
    """Let any worker take commands that were meant for nodes, once there will be none."""
    rows = fetch(ASHORE, (ON_NODES, BATCH))
    for unit_id, job_id, action_id in rows:
        _try(f"unit {unit_id} without nodes", partial(_release, unit_id, job_id, action_id))
    return len(rows)


@retried
def _release(unit_id: int, job_id: UUID, action_id: int) -> None:
    if step_pen.lock(job_id) is None:
        return
    row = JobAction.objects.get(id=action_id)
    error = places.release(unit_id, job_id, row)
    if not error or not units.drop(job_id, [unit_id], StepEventKind.FAILED, error):
        return
    if pen.move_action(action_id, ActionEventKind.FAILED, reason=error):
        aftermath.after_commit(job_id)


def overlooked_sets() -> int:
    """Set off actions all of whose steps have ended, if counting was missed."""
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


SWEEPS = (
    stranded.lose_workers,
    lost_sessions,
    unsettled_actions,
    neglected_units,
    ashore_units,
    overlooked_sets,
    again.ask,
)
