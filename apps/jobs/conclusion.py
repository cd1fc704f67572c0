"""The end of a job: its verdict, its output, and what the end sets off. The one path, from wherever the job ends."""

from __future__ import annotations

import json
from uuid import UUID

from apps.jobs import contexts, ports
from apps.jobs.blueprints import Plan
from apps.jobs.models import Job
from apps.jobs.sql import fetch
from apps.jobs.transitions import moves as pen
from apps.jobs.transitions.moves import JobState
from engine import planner
from engine.lifecycle import JobEventKind

ERRORS = """
SELECT name, status, error FROM jobs_step
WHERE job_id = %s AND loop_id IS NULL AND status IN ('failed', 'cancelled') AND NOT (tolerates AND status = 'failed')
ORDER BY completed_at, position LIMIT 20
"""
LEAF_OUTPUTS = """
SELECT name, output::text, output_sealed FROM jobs_step
WHERE job_id = %s AND name = ANY(%s) AND status = 'completed' AND has_output ORDER BY position
"""


def conclude_job(job: Job, plan: Plan, state: JobState, bad_steps: int, *, actor: str = "") -> None:
    """End a job that has no open step. Called with the job locked.

    Its output is {step: output} of the steps that nobody depends on. Source: spec 3.4.
    """
    event = planner.conclude(bad_steps=bad_steps, is_cancelling=state.is_cancelling)
    found = fetch(LEAF_OUTPUTS, (job.id, plan.leaves)) if event is JobEventKind.SUCCEEDED else []
    output = {name: json.loads(text) for name, text, _ in found if text} or None
    sealed = contexts.sealed_job_output(found)
    error = "" if event is JobEventKind.SUCCEEDED else job.cancel_reason or _errors(job.id)
    if not pen.move_job(job.id, event, output=output, output_sealed=sealed, error=error, actor=actor):
        return
    job.refresh_from_db()
    ports.ended(job, plan)


def _errors(job_id: UUID) -> str:
    return "; ".join(
        f"Step '{name}': {error or ('was cancelled' if status == 'cancelled' else 'failed')}"
        for name, status, error in fetch(ERRORS, (job_id,))
    )
