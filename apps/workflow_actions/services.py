"""The doors of the room: what `jobs` calls when a job begins, moves or ends, and what workers
report.

The handlers run in the transaction that holds the job's lock; `finish` and `lose` open their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db.models import Func

from apps.fleet.models import Allocation, WorkerSession
from apps.jobs.database.sql import fetch, retried
from apps.jobs.flow import contexts
from apps.jobs.flow.redaction import shown
from apps.jobs.models import Job
from apps.jobs.plans import Plan
from apps.jobs.transitions import moves as step_pen
from apps.workflow_actions import aftermath, counting, runs, sessions
from apps.workflow_actions import transitions as pen
from apps.workflow_actions.models import ActionRun, Hold, JobAction, Member
from engine.lifecycle import StepEventKind
from engine.orders import StepOutcome, Verdict

# What a job's end sets off is done even when the job was cancelled.
LASTING = ("on_workflow_complete", "on_worker_complete", "on_jobs_complete")
WORDS = {Verdict.SUCCEEDED: "succeeded", Verdict.CANCELLED: "cancelled", Verdict.LOST: "lost"}


def on_birth(job: Job, plan: Plan) -> None:
    """Arm a job's workflow actions; again after a restart."""
    counting.begin(job, plan)
    _settle_later(job.id)


def on_moves(job: Job, plan: Plan, moves: Sequence[tuple[str, StepEventKind]]) -> None:
    """Count steps that moved."""
    if counting.count_moves(job, plan, moves):
        _settle_later(job.id)


def on_end(job: Job, plan: Plan) -> None:
    """Set off what waits for the job's end, and give up the nodes that nobody needs any more."""
    if not job.has_actions:
        return
    counting.conclude(job, plan)
    sessions.settle_actions(job.id, job.generation)
    _give_up_nodes(job.id)
    _settle_later(job.id)


def on_cancel(job_id: UUID, actor: str, reason: str) -> None:
    """A cancelled job begins nothing more; what its end sets off is done all the same."""
    rows = fetch(
        """
        SELECT id FROM workflow_actions_jobaction WHERE job_id = %s
            AND status IN ('waiting', 'held', 'armed')
            AND trigger_type <> ALL(%s)
        """,
        (job_id, list(LASTING)),
    )
    ids = [row[0] for row in rows]
    pen.drop_runs(ids, "cancelled", "Job cancelled")
    for id in ids:
        if not ActionRun.objects.filter(action_id=id, status="running").exists():
            pen.move_action(
                id, "cancelled", sources=("waiting", "held", "armed"), reason="Job cancelled"
            )
    if ids:
        _settle_later(job_id)
    _give_up_nodes(job_id)


def _give_up_nodes(job_id: UUID) -> None:
    """What is in Slurm's queue for the job need not come any more."""
    waiting = Allocation.objects.filter(job_id=job_id, ended_at=None, cancel_requested_at=None)
    waiting.update(cancel_requested_at=Func(function="clock_timestamp"))


def on_removal(job_ids: Sequence[UUID]) -> None:
    """Retention removes these jobs: their actions, sessions and allocations go with them."""
    for model in (Member, Hold, ActionRun, JobAction, WorkerSession, Allocation):
        model.objects.filter(job_id__in=list(job_ids)).delete()


def _settle_later(job_id: UUID) -> None:
    if JobAction.objects.filter(job_id=job_id, is_settled=False).exists():
        aftermath.after_commit(job_id)


def finish(run_id: int, fence: int, outcome: StepOutcome, *, command: int | None = None) -> bool:
    """How a run ended, as its worker tells; False when it is not that worker's any more."""
    to = WORDS.get(outcome.verdict, "failed")
    error = _masked(run_id, outcome.error) if outcome.error else ""
    return _end(run_id, fence, to, exit_code=outcome.exit_code, error=error, command=command)


def _masked(run_id: int, error: str) -> str:
    """The error as people may see it: a worker masks what commands print, not what its own refusals
    quote."""
    job = Job.objects.filter(pk=ActionRun.objects.filter(id=run_id).values("job_id")[:1]).first()
    return str(shown(error, contexts.masks_of(job))) if job else error


def lose(run_id: int, fence: int, error: str) -> bool:
    """A run whose worker is gone: another one repeats it, a few times."""
    return _end(run_id, fence, "lost", exit_code=None, error=error, command=None)


@retried
def _end(
    run_id: int, fence: int, to: str, *, exit_code: int | None, error: str, command: int | None
) -> bool:
    job_id = ActionRun.objects.filter(id=run_id).values_list("job_id", flat=True).first()
    if job_id is None or step_pen.lock(job_id) is None:
        return False
    ended = pen.end_run(run_id, fence, to, exit_code=exit_code, error=error, command=command)
    if ended is None:
        return False
    if runs.conclude(ended, to, error):
        aftermath.after_commit(job_id)
    elif (
        ended.session_id is None or ended.bound_to is None
    ):  # its session may have been left before
        generation = JobAction.objects.values_list("generation", flat=True).get(id=ended.action_id)
        sessions.settle_actions(job_id, generation)
        _settle_later(job_id)
    return True
