"""Follows up on ended workflow actions: releases what they held back, sets off what needed them,
and fails the job if its author wants that. Runs in its own transaction with the job locked. Safe to
repeat."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction

from apps.jobs import bells
from apps.jobs.database.sql import fetch, fetch_one, retried
from apps.jobs.flow import blueprints, starting
from apps.jobs.flow.advance import Advance
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.jobs.transitions import moves as step_pen
from apps.jobs.transitions import rows
from apps.jobs.transitions.moves import JobState, Result
from apps.workflow_actions import allocations, counting, runs
from apps.workflow_actions import transitions as pen
from apps.workflow_actions.models import JobAction
from apps.workflow_actions.watches import watch_of
from engine import workflow_actions
from engine.lifecycle import ActionStatus, JobStatus, StepEventKind, StepStatus


def after_commit(job_id: UUID) -> None:
    """Settle ended actions right after the transaction; a sweep finds what this misses."""

    def settle_it() -> None:  # a named function: Django logs its name with errors
        settle(job_id)

    transaction.on_commit(settle_it, robust=True)


@retried
def settle(job_id: UUID) -> None:
    """Follow up on the actions of this job that have ended."""
    state = step_pen.lock(job_id)
    if state is None:
        return
    plan = blueprints.load(state.blueprint_id)
    ended = list(JobAction.objects.filter(job_id=job_id, is_settled=False).order_by("id"))
    if not ended:
        return
    job = Job.objects.select_related("revision", "workspace").get(id=job_id)
    released = pen.release(job_id, [row.id for row in ended])
    allocations.give_up([row.id for row in ended])
    pen.settled([row.id for row in ended])
    _resolve_held(job, plan)
    failure = next((reason for row in ended if (reason := _failure(row, plan, job))), None)
    if JobStatus(state.status).is_final:
        if failure:
            _say_too_late(state, failure)
    elif released or failure:
        _advance(state, plan, failure)
    if JobAction.objects.filter(job_id=job_id, is_settled=False).exists():
        after_commit(job_id)


def _resolve_held(job: Job, plan: Plan) -> None:
    """Resolve actions that waited for others, until none of them moves."""
    watch = watch_of(plan)
    has_moved = True
    while has_moved:
        held = JobAction.objects.filter(
            job_id=job.id, generation=job.generation, status=ActionStatus.HELD
        ).order_by("index")
        has_moved = False
        for row in held:
            needs = workflow_actions.needs_met(
                watch.actions[row.index].action, counting.states_of(job)
            )
            if needs.verdict != "wait":
                has_moved |= counting.resolve(job, plan, row, watch.actions[row.index], row.outcome)


def _failure(row: JobAction, plan: Plan, job: Job) -> str | None:
    """The reason to fail the job with this action, or None."""
    one = watch_of(plan).actions[row.index]
    if one.action.on_failure != "fail_job" or row.generation != job.generation:
        return None
    if row.status == ActionStatus.FAILED:
        return f"Workflow action '{one.label}' failed: {row.reason}"
    if not row.is_by_session:
        return None
    last = runs.of([row.id]).filter(status=StepStatus.FAILED).order_by("-id").first()
    return f"Workflow action '{one.label}' failed: {last.error}" if last else None


def _say_too_late(state: JobState, failure: str) -> None:
    """A job's status does not wait for its actions, but whoever reads its log must learn of it."""
    text = f"[actions] {failure}. The job had ended before: it stays {state.status}"
    now = fetch_one("SELECT extract(epoch FROM clock_timestamp())::float8", ())
    assert now is not None
    step_pen.say(state.id, text, at=now[0])


def _advance(state: JobState, plan: Plan, failure: str | None) -> None:
    """Advance the job. After a failure, steps that are not in progress fail with it; running ones
    finish."""
    if failure is not None:
        step_pen.note_failure(state.id, failure)
        fresh = step_pen.lock(state.id)
        assert fresh is not None
        state = fresh
    advance = Advance(state, plan)
    if failure is not None:
        waiting = rows.waiting_steps(state.id)
        advance.absorb(
            step_pen.settle(state.id, waiting, StepEventKind.FAILED, Result(error=failure))
        )
        advance.moves += [(name, StepEventKind.FAILED) for name in _names(waiting)]
    advance.consider(starting.roots_of(state.id))
    advance.run()
    bells.ring_after_commit(advance.bells)


def _names(step_ids: list[int]) -> list[str]:
    return [
        row[0]
        for row in fetch(
            "SELECT name FROM jobs_step WHERE id = ANY(%s) AND loop_id IS NULL", (step_ids,)
        )
    ]
