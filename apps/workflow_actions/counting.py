"""What sets workflow actions off: the creation of a job, the moves of its steps, its end.

Called with the job locked, in the transaction of the move itself. Steps are counted as a set, from
their rows: each counts once, whatever its path, and counting again changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_one
from apps.jobs.flow import contexts
from apps.jobs.flow.contexts import redact
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.workflow_actions import runs
from apps.workflow_actions import transitions as pen
from apps.workflow_actions.models import JobAction
from apps.workflow_actions.watches import watch_of
from apps.workspaces.errors import SecretsPending
from engine import templating, workflow_actions
from engine.errors import StroemError
from engine.lifecycle import (
    UNBEGUN_ACTION,
    ActionEventKind,
    ActionStatus,
    JobStatus,
    StepEventKind,
    StepStatus,
)
from engine.spec.slurm import JOB_TRIGGERS
from engine.spec.tags import ANY_SCHEDULER, schedulers_of
from engine.workflow_actions import ENDS, STARTS, Watched

LOOPS = """
SELECT s.base, s.loop_total IS NOT NULL, s.status IN ('completed', 'failed', 'skipped', 'cancelled')
FROM jobs_step s WHERE s.job_id = %s AND s.name = ANY(%s)
"""
INSTANCES = (
    "SELECT name FROM jobs_step WHERE job_id = %s AND base = ANY(%s) AND loop_id IS NOT NULL"
)
NO_STEP = "no step that runs again uses its nodes"
NO_STEP_SELECTED = "it selects no step of this task"
NAMES = "name <> '' AND job_id = %s AND generation = %s"


def count_moves(job: Job, plan: Plan, moves: Sequence[tuple[str, StepEventKind]]) -> bool:
    """Count the steps that moved, and set off the actions that waited for them. False if they
    concern no action."""
    names = {name for name, _ in moves}
    if not watch_of(plan).concerns(names):
        return False
    recount(job, plan, names)
    return True


def recount(job: Job, plan: Plan, names: Collection[str] | None) -> None:
    """Count all, or the named steps and held ones behind them, from the rows; set off full sets."""
    watch = watch_of(plan)
    grown = _grow(job, plan, names)
    concerned = None
    if names is not None:
        behind = {
            name
            for one in watch.actions
            for name in one.held
            if not names_before(plan, name).isdisjoint(names)
        }
        concerned = {*names, *behind, *grown}
    reached = pen.reach(job.id, job.generation, concerned)
    if reached or grown or names is None:
        for action_id in pen.complete_sets(
            job.id, job.generation, None if names is None or grown else reached
        ):
            _set_off(job, plan, JobAction.objects.get(id=action_id))


def names_before(plan: Plan, name: str) -> frozenset[str]:
    return frozenset(plan.task.flow[name].depends_on)


def _grow(job: Job, plan: Plan, names: Collection[str] | None) -> set[str]:
    """Add the steps of opened loops to the sets that select them; returns the new members'
    names."""
    watch = watch_of(plan)
    bases = None if names is None else {name.partition("[")[0] for name in names}
    growing = [
        one
        for one in watch.actions
        if one.loops and (bases is None or not bases.isdisjoint(one.loops))
    ]
    if not growing:
        return set()
    rows = JobAction.objects.filter(
        job_id=job.id,
        generation=job.generation,
        status=ActionStatus.WAITING,
        may_grow=True,
        index__in=[w.index for w in growing],
    )
    added: set[str] = set()
    for row in rows:
        one = watch.actions[row.index]
        states = {
            base: (is_open, is_final)
            for base, is_open, is_final in fetch(LOOPS, (job.id, list(one.loops)))
        }
        opened = [base for base, (is_open, _) in states.items() if is_open]
        found = (
            [name for (name,) in fetch(INSTANCES, (job.id, opened)) if one.selects(name)]
            if opened
            else []
        )
        pen.add_members(row.id, job.id, found)
        added.update(found)
        if all(is_open or is_final for is_open, is_final in states.values()):
            JobAction.objects.filter(id=row.id).update(may_grow=False)
            added.add("")  # the set is now closed, even if nothing was added
    return added


def begin(job: Job, plan: Plan) -> None:
    """Arm the actions of a job's first generation, or of the next one after a restart."""
    watch = watch_of(plan)
    fired = _supersede(job) if job.generation > 1 else frozenset()
    now = _now()
    rows = [
        JobAction(
            job_id=job.id,
            generation=job.generation,
            index=one.index,
            name=one.action.name or "",
            trigger_type=one.action.trigger_type,
            is_by_session=workflow_actions.is_by_session(one.action),
            is_barrier=one.action.barrier,
            may_grow=bool(one.loops),
            created_at=now,
        )
        for one in watch.actions
    ]
    JobAction.objects.bulk_create(rows)
    pending = _pending(job) if job.generation > 1 else frozenset(plan.task.flow)
    armed = [
        row
        for row in rows
        if _arm(job, plan, row, watch.actions[row.index], row.index in fired, pending)
    ]
    for row in armed:
        if workflow_actions.is_of_sessions(watch.actions[row.index].action):
            pen.move_action(row.id, ActionEventKind.ARMED)
        elif row.trigger_type == STARTS:
            _set_off(job, plan, row)
    if job.generation > 1 or any(row.is_barrier or row.may_grow for row in armed):
        recount(job, plan, None)


def _arm(
    job: Job, plan: Plan, row: JobAction, one: Watched, has_fired: bool, pending: Collection[str]
) -> bool:
    """Whether the action takes part in this generation; if so, note what it watches and holds
    back."""
    runs_again = any(name in pending for name in (*one.selected, *one.loops))
    again = workflow_actions.rearms(one.action, has_fired=has_fired, runs_again=runs_again)
    if not again.is_armed:
        pen.move_action(row.id, ActionEventKind.SKIPPED, reason=again.reason)
        return False
    if job.generation > 1 and workflow_actions.only_asks(one.action.do):
        wanted = {plan.task.flow[name].scheduler for name in pending}
        if wanted.isdisjoint((ANY_SCHEDULER, *schedulers_of(one.action))):
            pen.move_action(row.id, ActionEventKind.SKIPPED, reason=NO_STEP)
            return False
    if row.trigger_type in JOB_TRIGGERS:
        if not one.selected and not one.loops:
            pen.move_action(row.id, ActionEventKind.SKIPPED, reason=NO_STEP_SELECTED)
            return False
        pen.add_members(row.id, job.id, one.selected)
    if one.held:
        pen.hold(row.id, job.id, one.held)
    return True


def _pending(job: Job) -> frozenset[str]:
    rows = fetch(
        "SELECT DISTINCT base FROM jobs_step WHERE job_id = %s AND owner_kind = 'step'"
        " AND status = 'pending'",
        (job.id,),
    )
    return frozenset(row[0] for row in rows)


def _supersede(job: Job) -> frozenset[int]:
    """Close the earlier generations; returns the indexes of actions that had begun in one of
    them."""
    old = JobAction.objects.filter(job_id=job.id, generation__lt=job.generation)
    begun = runs.of(old.values_list("id", flat=True)).filter(fence__gt=0).values("owner_id")
    fired = frozenset(old.filter(id__in=begun).values_list("index", flat=True))
    of_sessions = (*_WORKER_TRIGGERS, STARTS)
    left = list(
        old.filter(status__in=UNBEGUN_ACTION).values_list("id", "trigger_type", "is_by_session")
    )
    ids = [
        id
        for id, trigger, by_session in left
        if not (trigger in of_sessions and (by_session or trigger != STARTS))
    ]
    runs.drop_waiting(job.id, ids, "The job was restarted before this was done")
    for id in ids:
        pen.move_action(id, ActionEventKind.SUPERSEDED, reason="The job was restarted")
    pen.forget_holds(job.id)
    return fired


_WORKER_TRIGGERS = ("on_worker_start", "on_worker_complete")


def conclude(job: Job, plan: Plan) -> None:
    """The job is over: set off what waited for that, and end what can never be set off."""
    for row in JobAction.objects.filter(
        job_id=job.id, generation=job.generation, status=ActionStatus.WAITING
    ).order_by("index"):
        if row.trigger_type == ENDS:
            _set_off(job, plan, row)
        else:
            pen.move_action(row.id, ActionEventKind.SKIPPED, reason="the job ended first")
    for row in JobAction.objects.filter(
        job_id=job.id, generation=job.generation, status=ActionStatus.ARMED
    ).order_by("index"):
        action = watch_of(plan).actions[row.index].action
        if workflow_actions.only_asks(action.do) and not workflow_actions.is_of_sessions(action):
            _call_off(row)


def _call_off(row: JobAction) -> None:
    """Call off requests for nodes that are not needed any more; a request in progress notices by
    itself."""
    runs.drop_waiting(row.job_id, [row.id], workflow_actions.NO_NODES)
    if not runs.is_running(row.id):
        pen.move_action(row.id, ActionEventKind.CALLED_OFF, reason=workflow_actions.NO_NODES)


def _set_off(job: Job, plan: Plan, row: JobAction) -> None:
    """The watched event has come: arm the action, let it wait for others, or skip it."""
    one = watch_of(plan).actions[row.index]
    members = dict(row.members.values_list("step_name", "outcome"))
    if (
        row.trigger_type == "on_jobs_ready"
        and not row.members.filter(is_unreachable=False).exists()
    ):
        outcome = workflow_actions.outcome_of("on_jobs_complete", members.values())
        pen.move_action(
            row.id,
            ActionEventKind.SKIPPED,
            reason="none of its steps became ready",
            outcome=outcome,
        )
        return
    outcome = workflow_actions.outcome_of(row.trigger_type, members.values(), job.status)
    resolve(job, plan, row, one, outcome)


def resolve(job: Job, plan: Plan, row: JobAction, one: Watched, outcome: str) -> bool:
    """Advance a set-off action as far as its `needs` and `when` allow; returns whether it moved."""
    needs = workflow_actions.needs_met(one.action, states_of(job))
    if needs.verdict == "wait":
        return pen.move_action(row.id, ActionEventKind.HELD, outcome=outcome)
    if needs.verdict == "never":
        return pen.move_action(
            row.id, ActionEventKind.SKIPPED, reason=needs.reason, outcome=outcome
        )
    if JobStatus(job.status).is_final and workflow_actions.only_asks(one.action.do):
        return pen.move_action(
            row.id, ActionEventKind.SKIPPED, reason=workflow_actions.NO_NODES, outcome=outcome
        )
    try:
        is_wanted = one.action.when is None or wants_to_run(job, plan, row, one, outcome)
    except SecretsPending:  # no answer about its condition: the transaction is done again
        raise
    except StroemError as error:
        message = str(redact(f"when condition error: {error}", contexts.masks_of(job)))
        return pen.move_action(row.id, ActionEventKind.FAILED, reason=message, outcome=outcome)
    if not is_wanted:
        return pen.move_action(
            row.id, ActionEventKind.SKIPPED, reason="its condition is false", outcome=outcome
        )
    if not pen.move_action(row.id, ActionEventKind.ARMED, outcome=outcome):
        return False
    _add_units(job, row, one)
    return True


def states_of(job: Job) -> dict[str, str]:
    rows = JobAction.objects.filter(job_id=job.id, generation=job.generation).exclude(name="")
    return dict(rows.values_list("name", "status"))


def wants_to_run(job: Job, plan: Plan, row: JobAction, one: Watched, outcome: str) -> bool:
    """The action's `when`. It sees the context of a step's `when`, and `event`: how the watched
    steps ended."""
    assert one.action.when is not None
    found = templating.references(one.action.when)
    names = found.names | ({"*"} if found.is_open else set())
    context = contexts.base_view(job, plan, frozenset(names)).values
    return templating.is_true(one.action.when, {**context, "event": event_of(row, outcome)})


def event_of(row: JobAction, outcome: str) -> dict[str, Any]:
    steps = dict(row.members.values_list("step_name", "outcome"))
    counts = {
        word.value: list(steps.values()).count(word)
        for word in (
            StepStatus.COMPLETED,
            StepStatus.FAILED,
            StepStatus.CANCELLED,
            StepStatus.SKIPPED,
        )
    }
    return {
        "trigger": row.trigger_type,
        "outcome": outcome,
        "steps": steps,
        "total": len(steps),
        **counts,
    }


def _add_units(job: Job, row: JobAction, one: Watched) -> None:
    """Add one unit for the job, or for session actions one per worker now serving it."""
    sessions: Sequence[tuple[int | None, UUID | None]] = ()
    if row.is_by_session:
        query = (
            "SELECT id, worker_id FROM fleet_workersession WHERE job_id = %s AND status = 'open'"
            " ORDER BY id"
        )
        found = fetch(query, (job.id,))
        sessions = [
            (id, worker)
            for id, worker in found
            if runs.lacking(worker, one).isdisjoint(("script", one.node_tag))
        ]
    for session_id, worker_id in sessions or [(None, None)]:
        runs.add(row, one, session_id=session_id, bound_to=worker_id)


def _now() -> Any:
    row = fetch_one("SELECT clock_timestamp()", ())
    assert row is not None
    return row[0]
