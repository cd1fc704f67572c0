"""Workers that enter and leave a job, and what this sets off. Each service opens its own
transaction."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from apps.fleet import sessions as fleet
from apps.fleet import transitions as fleet_pen
from apps.fleet.models import WorkerSession
from apps.jobs.database.sql import fetch, retried
from apps.jobs.flow import blueprints, contexts
from apps.jobs.flow.contexts import redact
from apps.jobs.models import Job, Unit
from apps.jobs.plans import Plan
from apps.jobs.transitions import moves as step_pen
from apps.jobs.transitions import units
from apps.workflow_actions import counting, runs
from apps.workflow_actions.models import JobAction, Share
from apps.workflow_actions.watches import watch_of
from apps.workspaces.errors import SecretsPending
from engine import workflow_actions
from engine.errors import StroemError
from engine.lifecycle import FINAL_STEP, ActionStatus, JobStatus, SessionEventKind, StepEventKind

OVER = """
SELECT s.id FROM fleet_workersession s JOIN jobs_job j ON j.id = s.job_id
WHERE s.worker_id = %s AND s.status = 'open'
    AND (j.status IN ('completed', 'failed', 'cancelled') OR j.generation > s.generation)
"""
UNABLE = "this worker runs no commands: it lacks the tag script"
NOT_THERE = "this worker is not on a node"
ORPHANED = """
SELECT s.id FROM fleet_workersession s LEFT JOIN fleet_worker w ON w.id = s.worker_id
WHERE s.status IN ('open', 'closing') AND (w.id IS NULL OR w.stopped_at IS NOT NULL) LIMIT 200
"""


@retried
def open_session(worker_id: UUID, job_id: UUID, allocation_id: UUID | None = None) -> int | None:
    """Open the worker's session for the job and set off what this triggers; None if the job is
    gone."""
    state = step_pen.lock(job_id)
    if state is None or JobStatus(state.status).is_final:
        return None
    session, is_new = fleet.open_session(job_id, state.generation, worker_id, allocation_id)
    if is_new:
        _add_units(_job(job_id), blueprints.load(state.blueprint_id), session, at_entry=True)
    return session.id


@retried
def is_entered(session_id: int) -> bool:
    """Whether everything the worker must do before its first step of the job has ended, well or
    not."""
    session = WorkerSession.objects.get(id=session_id)
    state = step_pen.lock(session.job_id)
    assert state is not None
    is_waiting = _add_units(
        _job(session.job_id), blueprints.load(state.blueprint_id), session, at_entry=True
    )
    return not is_waiting and not _has_open_units(session, at_entry=True)


@retried
def leave(session_id: int, reason: str) -> None:
    """The worker leaves the job: set off what this triggers."""
    session = WorkerSession.objects.get(id=session_id)
    state = step_pen.lock(session.job_id)
    assert state is not None
    if fleet_pen.move_session(session_id, SessionEventKind.LEAVING, reason=reason):
        _add_units(
            _job(session.job_id), blueprints.load(state.blueprint_id), session, at_entry=False
        )


@retried
def is_left(session_id: int) -> bool:
    """Whether everything set off by the worker's leaving has ended; if so, close the session."""
    session = WorkerSession.objects.get(id=session_id)
    state = step_pen.lock(session.job_id)
    assert state is not None
    if _add_units(
        _job(session.job_id), blueprints.load(state.blueprint_id), session, at_entry=False
    ):
        return False
    if _has_open_units(session, at_entry=None):
        return False
    if fleet_pen.move_session(session_id, SessionEventKind.CLOSED):
        settle_actions(session.job_id, session.generation)
    return True


def over(worker_id: UUID) -> list[int]:
    """The worker's open sessions whose job has ended."""
    return [row[0] for row in fetch(OVER, (worker_id,))]


def lose_orphans() -> int:
    """Close sessions whose worker is gone: what only it could do fails."""
    rows = fetch(ORPHANED, ())
    for (session_id,) in rows:
        _lose(session_id)
    return len(rows)


@retried
def _lose(session_id: int) -> None:
    session = WorkerSession.objects.get(id=session_id)
    state = step_pen.lock(session.job_id)
    if state is None or not fleet_pen.move_session(
        session_id, SessionEventKind.LOST, reason="lost"
    ):
        return
    error = "The worker was lost before it could run this"
    mine = Unit.objects.filter(bound_to=session.worker_id, job_id=session.job_id)
    for unit in mine.filter(status__in=units.WAITING).order_by("id"):
        runs.forsake(unit, error)
    settle_actions(session.job_id, session.generation)


def _job(job_id: UUID) -> Job:
    return Job.objects.select_related("revision", "workspace").get(id=job_id)


def _of_sessions(plan: Plan, session: WorkerSession, at_entry: bool) -> Iterable[JobAction]:
    watch = watch_of(plan)
    rows = JobAction.objects.filter(
        job_id=session.job_id,
        generation=session.generation,
        status__in=(ActionStatus.ARMED, ActionStatus.RUNNING),
    ).order_by("index")
    for row in rows:
        action = watch.actions[row.index].action
        if (
            workflow_actions.is_of_sessions(action)
            and workflow_actions.is_at_entry(action) is at_entry
        ):
            yield row


def _add_units(job: Job, plan: Plan, session: WorkerSession, *, at_entry: bool) -> bool:
    """Add the missing units that the session sets off. True if one waits for an action it needs."""
    is_waiting = False
    for row in _of_sessions(plan, session, at_entry):
        one = watch_of(plan).actions[row.index]
        session_id = session.id if row.is_by_session else None
        known: QuerySet[Any] = runs.of([row.id])
        if row.is_by_session:
            known = Share.objects.filter(action_id=row.id, session_id=session.id)
        if known.exists():
            continue
        needs = workflow_actions.needs_met(one.action, counting.states_of(job))
        lacking = runs.lacking(session.worker_id, one)
        is_unable = not lacking.isdisjoint(("script", one.node_tag))
        if is_unable and not row.is_by_session:
            continue  # another worker may do it
        if needs.verdict == "wait":
            is_waiting = True
        else:
            unit_id = runs.add(row, one, session_id=session_id, bound_to=session.worker_id)
            refusal = (
                UNABLE
                if "script" in lacking
                else NOT_THERE
                if is_unable
                else needs.reason or _refusal(job, plan, row, session)
            )
            if refusal and unit_id is not None:
                units.drop(job.id, [unit_id], StepEventKind.CANCELLED, refusal)
    return is_waiting


def _refusal(job: Job, plan: Plan, row: JobAction, session: WorkerSession) -> str:
    """The reason not to run the action, including a false `when`; empty if it is to run."""
    one = watch_of(plan).actions[row.index]
    if JobStatus(job.status).is_final and workflow_actions.only_asks(one.action.do):
        return workflow_actions.NO_NODES
    if one.action.when is None:
        return ""
    outcome = session.reason or workflow_actions.outcome_of(row.trigger_type, ())
    try:
        return (
            "" if counting.wants_to_run(job, plan, row, one, outcome) else "its condition is false"
        )
    except SecretsPending:  # no answer about its condition: the transaction is done again
        raise
    except StroemError as error:
        return str(redact(f"when condition error: {error}", contexts.masks_of(job)))


def _has_open_units(session: WorkerSession, *, at_entry: bool | None) -> bool:
    shares = Share.objects.filter(session_id=session.id).values("unit_id")
    mine = Q(bound_to=session.worker_id) | Q(id__in=shares)
    found = Unit.objects.filter(mine, job_id=session.job_id).exclude(status__in=FINAL_STEP)
    if at_entry:
        leaving = JobAction.objects.filter(job_id=session.job_id, trigger_type="on_worker_complete")
        found = found.exclude(owner_id__in=leaving.values("id"))
    return found.exists()


def settle_actions(job_id: UUID, generation: int) -> None:
    """End session actions once no session can start or end any more. Called with the job locked."""
    job = _job(job_id)
    is_past = JobStatus(job.status).is_final or job.generation > generation
    if not is_past or fleet.has_live(job_id, generation):
        return
    watch = watch_of(blueprints.load(job.blueprint_id))
    rows = JobAction.objects.filter(
        job_id=job_id, generation=generation, status__in=(ActionStatus.ARMED, ActionStatus.RUNNING)
    )
    for row in rows:
        if workflow_actions.is_of_sessions(watch.actions[row.index].action):
            runs.settle_by_units(row)
