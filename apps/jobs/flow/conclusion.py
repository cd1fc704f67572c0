"""The end of a job: its verdict, its output, and what the end sets off. Every job ends here."""

from __future__ import annotations

import json
from uuid import UUID

from apps.jobs import ports
from apps.jobs.database.sql import fetch
from apps.jobs.flow import contexts
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.jobs.transitions import moves as pen
from apps.jobs.transitions import stops
from apps.jobs.transitions.moves import JobState
from engine import planner
from engine.lifecycle import JobEventKind, StepStatus

ERRORS = """
SELECT name, status, error FROM jobs_step
WHERE job_id = %s AND owner_kind = 'step' AND loop_id IS NULL AND status IN ('failed', 'cancelled')
    AND NOT (tolerates AND status = 'failed')
ORDER BY completed_at, position LIMIT 20
"""
LEAF_OUTPUTS = """
SELECT name, output::text, output_sealed FROM jobs_step
WHERE job_id = %s AND name = ANY(%s) AND status = 'completed' AND has_output ORDER BY position
"""
NO_STOP = ("", False)
WITHOUT_WORDS = {StepStatus.FAILED: "failed", StepStatus.CANCELLED: "was cancelled"}


def conclude_job(state: JobState, plan: Plan, bad_steps: int, *, actor: str = "") -> None:
    """End a job that has no open step. Called with the job locked.

    Its output is {step: output} of the steps without dependents.
    """
    reason, is_timed_out = stops.stop_of(state.id) if state.is_cancelling or bad_steps else NO_STOP
    event = planner.conclude(
        bad_steps=bad_steps, is_cancelling=state.is_cancelling, is_timed_out=is_timed_out
    )
    is_success = event is JobEventKind.SUCCEEDED
    found = fetch(LEAF_OUTPUTS, (state.id, plan.leaves)) if is_success else []
    output = {name: json.loads(text) for name, text, _ in found if text} or None
    sealed = contexts.sealed_job_output(found)
    error = "" if is_success else reason or _errors(state.id)
    ended = pen.move_job(
        state.id, event, output=output, output_sealed=sealed, error=error, actor=actor
    )
    if ended is None or (
        is_success
        and not (
            ended.has_parent
            or ended.is_told
            or state.has_actions
            or plan.hooks.on_success
            or plan.is_watched
            or plan.is_serial
        )
    ):
        return  # it has already ended, or nothing waits for its success
    job = Job.objects.select_related("revision", "workspace").defer(*pen.HEAVY).get(id=state.id)
    ports.ended(job, plan)


def _errors(job_id: UUID) -> str:
    """The errors of the steps that the job may not tolerate."""
    return "; ".join(
        _in_words(name, error or WITHOUT_WORDS[status])
        for name, status, error in fetch(ERRORS, (job_id,))
    )


def _in_words(name: str, error: str) -> str:
    """The error with the step's name before it, which many an error begins with already."""
    prefix = f"Step '{name}': "
    return error if error.startswith(prefix) else prefix + error
