"""The end of a run, and what it means for its action: done, another try, or failed. Called with the
job locked."""

from __future__ import annotations

import random

from django.conf import settings

from apps.jobs.flow import blueprints
from apps.jobs.models import Job
from apps.workflow_actions import counting
from apps.workflow_actions import transitions as pen
from apps.workflow_actions.models import OPEN_RUN, ActionRun, JobAction
from apps.workflow_actions.transitions import EndedRun
from apps.workflow_actions.watches import watch_of
from engine import workflow_actions
from engine.retries import delay_s
from engine.workflow_actions import Watched


def watched(row: JobAction) -> Watched:
    plan = blueprints.load(Job.objects.values_list("blueprint_id", flat=True).get(id=row.job_id))
    return watch_of(plan).actions[row.index]


def conclude(ended: EndedRun, to: str, error: str) -> bool:
    """Go on after a run that ended as `to`: succeeded, failed, cancelled or lost. True when its
    action has ended."""
    row = JobAction.objects.get(id=ended.action_id)
    one = watched(row)
    if to == "lost" and _is_repeated(ended):
        _repeat(row, one, ended, number=ended.number, losses=ended.losses + 1, wait_s=0.0)
        return False
    retry = workflow_actions.retry_of(one.action)
    if to == "failed" and retry is not None and ended.number < retry.max_attempts:
        wait_s = delay_s(retry, ended.number, random.random())
        _repeat(row, one, ended, number=ended.number + 1, losses=ended.losses, wait_s=wait_s)
        return False
    if row.is_by_session or workflow_actions.is_of_sessions(one.action):
        return _conclude_session_run(row, one, to)
    target = {"succeeded": "succeeded", "cancelled": "cancelled"}.get(to, "failed")
    return pen.move_action(row.id, target, reason=error)


def _conclude_session_run(row: JobAction, one: Watched, to: str) -> bool:
    """Other sessions may come: the action goes on. Its failure may be the job's, though."""
    if not workflow_actions.is_of_sessions(one.action):
        return settle_by_runs(row)
    pen.move_action(row.id, "armed", sources=("running",))
    if to in ("failed", "lost") and one.action.on_failure == "fail_job":
        JobAction.objects.filter(id=row.id).update(is_settled=False)
        return True
    return False


def _is_repeated(ended: EndedRun) -> bool:
    """A session's own run cannot be done by another worker."""
    return ended.session_id is None and ended.losses < int(settings.STROEM.recovery.lost_retries)


def _repeat(
    row: JobAction, one: Watched, ended: EndedRun, *, number: int, losses: int, wait_s: float
) -> None:
    bound_to = ended.bound_to if ended.session_id is not None else None
    pen.move_action(row.id, "armed", sources=("running",))
    counting.add_run(
        row.job_id,
        row.id,
        one,
        session_id=ended.session_id,
        bound_to=bound_to,
        number=number,
        losses=losses,
        wait_s=wait_s,
    )


def drop(run: ActionRun, error: str) -> None:
    """End a run that nobody can begin any more; once for the job, another worker may."""
    if not pen.drop_runs([run.action_id], "failed", error, run_ids=[run.id]):
        return
    row = JobAction.objects.get(id=run.action_id)
    one = watched(row)
    if run.session_id is None:
        counting.add_run(row.job_id, row.id, one, number=run.number, losses=run.losses)
    elif not workflow_actions.is_of_sessions(one.action):
        settle_by_runs(row)


def settle_by_runs(row: JobAction) -> bool:
    """End an action that several sessions do, once none of its runs is open: failed if one of them
    is."""
    found = list(
        ActionRun.objects.filter(action_id=row.id)
        .order_by("id")
        .values_list("session_id", "status", "error")
    )
    if any(status in OPEN_RUN for _, status, _ in found):
        return False
    last = {session: (status, error) for session, status, error in found}
    wrong = [error for status, error in last.values() if status in ("failed", "lost")]
    if wrong:
        return pen.move_action(row.id, "failed", reason=wrong[-1])
    if not last:
        return pen.move_action(row.id, "skipped", reason="no worker took a step of this job")
    is_done = any(status == "succeeded" for status, _ in last.values())
    return pen.move_action(row.id, "succeeded" if is_done else "cancelled")
