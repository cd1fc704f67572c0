"""What a follower of a job wants to know, in one look: the job with the jobs that it set off, what
runs or has just ended, and their log lines since the last look."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from uuid import UUID

from django.db.models import Q

from apps.jobs.database.sql import fetch
from apps.jobs.log.cursors import Cursor, Piece, read
from apps.jobs.models import Job
from apps.workflow_actions import snapshots
from engine.lifecycle import FINAL_JOB
from engine.news import Relative, StepNews

HIDDEN = "Lines and errors of some jobs are left out: the right 'logs' on their tasks is missing"
MOST_RELATIVES = 10_000
ENDED_WITHIN_S = 3.0
KIN = (
    "pk", "retry_of_id", "parent_job_id", "parent_step_name", "source_type", "source_id",
    "task_name",
)  # fmt: skip
STEPS = """
SELECT id, job_id, name, status, error,
       coalesce(extract(epoch FROM CASE WHEN status = 'pending' THEN retry_at - clock_timestamp()
           ELSE coalesce(completed_at, clock_timestamp())
               - coalesce(started_at, suspended_at, completed_at) END), 0)::float
FROM jobs_step
WHERE job_id = ANY(%s) AND owner_kind = 'step'
  AND (status IN ('running', 'suspended') OR (status = 'pending' AND retry_at IS NOT NULL)
      OR completed_at > clock_timestamp() - make_interval(secs => %s))
ORDER BY coalesce(completed_at, started_at), id
"""


@dataclass(frozen=True, slots=True)
class News:
    """`relatives`: each after the job that set it off. `has_ended`: nothing of it is open any
    more, and `log` holds the last lines, or says that there are more."""

    relatives: list[Relative]
    steps: list[StepNews]
    actions: list[snapshots.Ended]
    log: Piece
    has_ended: bool
    hidden: str = ""  # why lines and errors of some jobs are left out


@dataclass(frozen=True, slots=True)
class Within:
    """Conditions for the jobs that a reader may see, and for those whose logs they may see."""

    seen: Q = field(default_factory=Q)
    logs: Q = field(default_factory=Q)


EVERYTHING = Within()


def news(
    root: UUID,
    cursor: Cursor,
    known_actions: Collection[int] = (),
    within: Within = EVERYTHING,
    *,
    ended_within_s: float = ENDED_WITHIN_S,
) -> News:
    """`within`: what the reader may see. `ended_within_s`: steps that
    ended so long ago are news; longer than between two looks."""
    relatives = _family(root, within.seen)
    job_ids = {root, *(job.id for job in relatives)}
    rows = Job.objects.filter(pk__in=job_ids).values_list("pk", "status", "has_actions")
    states = list(rows)
    with_actions = {job_id for job_id, _, has_actions in states if has_actions}
    has_ended = all(status in FINAL_JOB for _, status, _ in states) and not (
        with_actions and snapshots.is_anything_left(with_actions)
    )
    if has_ended:
        # A job starts its hooks as it ends. Asked before the last look at steps and lines, so that
        # nothing is missed.
        relatives = _family(root, within.seen)
        has_ended = job_ids == {root, *(job.id for job in relatives)}
        job_ids = {root, *(job.id for job in relatives)}
    steps = [StepNews(*row) for row in fetch(STEPS, [list(job_ids), ended_within_s])]
    ended = snapshots.ended_actions(with_actions, known_actions) if with_actions else []
    told = job_ids
    if within.logs:  # a condition
        told = set(Job.objects.filter(within.logs, pk__in=job_ids).values_list("pk", flat=True))
        steps = [one if one.job_id in told else replace(one, error="") for one in steps]
        ended = [one if one.job_id in told else replace(one, reason="") for one in ended]
    log = read(told, cursor)
    return News(relatives, steps, ended, log, has_ended, "" if told == job_ids else HIDDEN)


def _family(root: UUID, within: Q) -> list[Relative]:
    found: dict[UUID, Relative] = {}
    frontier = {root}
    while frontier and len(found) < MOST_RELATIVES:
        fresh = [
            relative
            for relative in _set_off_by(frontier, within)
            if relative.id not in found and relative.id != root
        ]
        found |= {relative.id: relative for relative in fresh}
        frontier = {relative.id for relative in fresh}
    return list(found.values())


def _set_off_by(job_ids: Collection[UUID], within: Q) -> list[Relative]:
    rows = Job.objects.filter(
        Q(parent_job_id__in=job_ids)
        | Q(retry_of_id__in=job_ids)
        | Q(source_type__in=("hook", "workflow_action"), source_id__in=[*map(str, job_ids)])
    )
    found = rows.filter(within).order_by("created_at", "pk").values_list(*KIN)
    return [Relative(*row) for row in found]
