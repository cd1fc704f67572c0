"""What only time changes: expired leases, due retries, deadlines, steps that no worker may run.

Every phase selects rows by their state, handles one job per transaction, and may run on several
hosts at once or be killed anywhere: the next run finds what is left. A row that fails is logged and
skipped.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError

from apps.fleet import matching, reach
from apps.jobs import bells
from apps.jobs.database.sql import fetch, retried
from apps.jobs.flow import admission, blueprints, cancellation, children, finishing, starting
from apps.jobs.flow.advance import advancing
from apps.jobs.models import Job
from apps.jobs.transitions import moves as pen
from apps.jobs.transitions import rows as rows_of_jobs
from apps.jobs.transitions.moves import Result
from apps.workspaces.models import Workspace
from engine.errors import StroemError
from engine.lifecycle import FINAL_JOB, JobStatus, StepEventKind, StepStatus

log = logging.getLogger("stroem.sweep")
BATCH = 500
FIRST_OF_A_TASK = 10
ENFORCEMENT_DELAY_S = 10  # the worker's own time-out and grace come first


def _each(phase: str, items: Iterable[Any], work: Callable[[Any], Any]) -> int:
    """Do `work` for each item; failures are logged and skipped. Returns how many succeeded."""
    done = 0
    for item in items:
        try:
            work(item)
            done += 1
        except (StroemError, DatabaseError) as error:
            log.warning("%s: %s: %s", phase, item, error)
    return done


def lost_attempts() -> int:
    """End attempts whose lease ran out: their worker is gone, cut off or frozen."""
    rows = fetch(
        "SELECT id FROM jobs_attempt WHERE ended_at IS NULL AND lease_until < clock_timestamp()"
        " ORDER BY id LIMIT %s",
        (BATCH,),
    )

    def lose(attempt_id: int) -> None:
        _, ready = finishing.lose(attempt_id)
        bells.ring({key: ready[id] for id, key in reach.keys_of(ready).items()})

    return _each("lost attempt", (row[0] for row in rows), lose)


def overdue_attempts() -> int:
    """End attempts past their time-out that their worker did not end. It learns at its next
    renewal."""
    rows = fetch(
        """
        SELECT id, job_id FROM jobs_attempt
        WHERE ended_at IS NULL AND deadline_at < clock_timestamp() - make_interval(secs => %s)
        LIMIT %s
        """,
        (ENFORCEMENT_DELAY_S, BATCH),
    )

    def time_out(row: tuple[int, UUID]) -> None:
        ready = finishing.time_out(*row)
        bells.ring({key: ready[id] for id, key in reach.keys_of(ready).items()})

    return _each("overdue attempt", rows, time_out)


def due_steps() -> int:
    """Make steps ready whose retry is due; in a loop with `max_parallel`, as its places allow."""
    rows = fetch(
        """
        SELECT s.id, s.loop_id, s.base, s.job_id, j.blueprint_id FROM jobs_step s
        JOIN jobs_job j ON j.id = s.job_id
        WHERE s.retry_at <= clock_timestamp() AND s.status = 'pending'
        ORDER BY s.retry_at LIMIT %s
        """,
        (BATCH,),
    )
    if not rows:
        return 0
    sharing = {
        (job_id, loop_id)
        for _, loop_id, base, job_id, blueprint_id in rows
        if loop_id is not None and blueprints.load(blueprint_id).nodes[base].shares_places
    }
    ready = pen.unblock([row[0] for row in rows if (row[3], row[1]) not in sharing])
    bells.ring({key: ready[id] for id, key in reach.keys_of(ready).items()})
    return sum(ready.values()) + _each("loop", sorted(sharing), lambda found: _turn_loop(*found))


@retried
def _turn_loop(job_id: UUID, loop_id: int) -> None:
    advance = advancing(job_id, blueprints.load)
    if advance is None or JobStatus(advance.state.status).is_final:
        return
    advance.turn(loop_id)
    advance.run()
    bells.ring_after_commit(advance.bells)


def due_jobs() -> int:
    """Start delayed jobs that are due and, for each task, the first held jobs if there may be
    room."""
    rows = fetch(
        """
        SELECT id FROM (
            SELECT id, priority, row_number() OVER (
                PARTITION BY workspace_id, task_name, is_held ORDER BY priority DESC, id) AS place
            FROM jobs_job WHERE status = 'pending' AND cancel_requested_at IS NULL
                AND (is_held OR due_at <= clock_timestamp())
        ) j WHERE place <= %s ORDER BY place, priority DESC, id LIMIT %s
        """,
        (FIRST_OF_A_TASK, BATCH),
    )
    return _each("due job", (row[0] for row in rows), admission.admit)


def overdue_jobs() -> int:
    """Let jobs fail whose time is up. What waits for its start has not begun to use its time."""
    rows = fetch(
        """
        SELECT id FROM jobs_job WHERE status IN ('pending', 'running')
            AND deadline_at < clock_timestamp() AND cancel_requested_at IS NULL
            AND NOT is_held AND due_at IS NULL LIMIT %s
        """,
        (BATCH,),
    )
    return _each("overdue job", (row[0] for row in rows), cancellation.time_out)


def overdue_children() -> int:
    """Fail steps that waited for a child job beyond their time-out, and cancel the child."""
    rows = fetch(
        """
        SELECT job_id, id, child_job_id FROM jobs_step
        WHERE deadline_at < clock_timestamp() AND status = 'running' AND kind = 'task' LIMIT %s
        """,
        (BATCH,),
    )
    return _each("overdue child", rows, lambda row: _time_out_child(*row))


def _time_out_child(job_id: UUID, step_id: int, child_id: UUID) -> None:
    if _fail_waiting_step(job_id, step_id, child_id, "Step timed out"):
        cancellation.forsake(child_id, "Parent step timed out")


@retried
def _fail_waiting_step(job_id: UUID, step_id: int, child_id: UUID, error: str) -> bool:
    advance = advancing(job_id, blueprints.load)
    if advance is None or not rows_of_jobs.is_waiting_for(step_id, child_id):
        return False
    base = rows_of_jobs.flow_name_of(step_id)
    advance.settle([step_id], StepEventKind.FAILED, Result(error=error), base=base)
    advance.run()
    bells.ring_after_commit(advance.bells)
    return True


def forsaken_children() -> int:
    """Cancel child jobs that no step waits for any more: a process died before it could cancel
    them."""
    rows = fetch(
        """
        SELECT j.id FROM jobs_job j JOIN jobs_job p ON p.id = j.parent_job_id
        WHERE j.status IN ('pending', 'running')
            AND j.source_type IN ('task', 'retry', 'agent_tool') AND j.cancel_requested_at IS NULL
            AND (p.cancel_requested_at IS NOT NULL OR NOT EXISTS (
                SELECT 1 FROM jobs_step s
                WHERE s.id = j.parent_step_id AND CASE WHEN s.kind = 'agent'
                    THEN s.status IN ('ready', 'running', 'suspended')
                    ELSE s.child_job_id = j.id AND s.status = 'running' END))
        ORDER BY j.id LIMIT %s
        """,
        (BATCH,),
    )
    return _each(
        "forsaken child",
        (row[0] for row in rows),
        lambda id: cancellation.forsake(id, "Parent job cancelled"),
    )


def untold_parents() -> int:
    """Advance parents that missed the end of a child because a process died in between."""
    ids = Job.objects.filter(parent_told=False, status__in=FINAL_JOB).values_list("id", flat=True)
    return _each("untold parent", list(ids[:BATCH]), children.tell_parent)


def unmatched_steps(
    expects: Callable[[str, UUID, str], bool | str] = lambda key, job_id, base: False,
) -> int:
    """Fail ready steps that no worker was able to run for the whole time-out.

    `expects(tag set key, job id, name in the flow)` returns whether a suitable worker is expected
    (from a requested allocation), or the reason why none is if it says more than the tags.
    """
    timeout_s = settings.STROEM.recovery.unmatched_step_timeout_s
    sets = dict(
        fetch(
            "SELECT t.id, t.key FROM fleet_tagset t WHERE EXISTS (SELECT 1 FROM jobs_step s WHERE"
            " s.tag_set_id = t.id AND s.status = 'ready' AND s.owner_kind = 'step')",
            (),
        )
    )
    served = [worker for worker in matching.seen_workers(timeout_s) if worker.job_id is None]
    foreign = {
        (set_id, place): why
        for place, name in _places(served)
        for set_id, key in sets.items()
        if (why := matching.misfit(key, served, name)) is not None
    }
    if not foreign:
        return 0
    rows = fetch(
        """
        SELECT s.job_id, s.id, s.base, s.tag_set_id, f.place
        FROM unnest(%s::int[], %s::bigint[]) f(set_id, place)
            JOIN jobs_step s ON s.tag_set_id = f.set_id JOIN jobs_job j ON j.id = s.job_id
        WHERE s.status = 'ready' AND s.owner_kind = 'step'
            AND (f.place IS NULL OR f.place = j.workspace_id)
            AND s.ready_at < clock_timestamp() - make_interval(secs => %s) ORDER BY s.id LIMIT %s
        """,
        (*map(list, zip(*foreign, strict=True)), timeout_s, BATCH),
    )
    late = [(row, expects(sets[row[3]], row[0], row[2])) for row in rows]
    return _each(
        "unmatched step",
        [(*row[:3], why or foreign[row[3:]]) for row, why in late if why is not True],
        lambda row: fail_unmatched(*row),
    )


def _places(workers: Iterable[matching.WorkerOffer]) -> list[tuple[int | None, str | None]]:
    """The workspaces to ask for one by one; one row for all where every worker serves all."""
    if not any(worker.workspaces for worker in workers):
        return [(None, None)]
    return list(Workspace.objects.values_list("id", "name"))


@retried
def fail_unmatched(job_id: UUID, step_id: int, base: str, error: str) -> None:
    """Fail a step that is still ready; one claimed in the meantime stays."""
    advance = advancing(job_id, blueprints.load)
    assert advance is not None
    settled = pen.settle(
        job_id, [step_id], StepEventKind.FAILED, Result(error=error), sources=(StepStatus.READY,)
    )
    advance.absorb(settled)
    if settled.moved:
        advance.moves.append((base, StepEventKind.FAILED))
        name, ended_at = rows_of_jobs.ended(step_id)
        text = f"[recovery] Step '{name}' has waited too long. {error}"
        pen.say(job_id, text, at=ended_at.timestamp(), step_id=step_id)
    advance.run()
    bells.ring_after_commit(advance.bells)


def missed_advances() -> int:
    """Advance jobs that should have moved on: with an unblocked pending step, or with no open
    step."""
    rows = fetch(
        """
        SELECT j.id FROM jobs_job j WHERE j.status IN ('pending', 'running') AND NOT j.is_held
            AND (j.due_at IS NULL OR j.due_at <= clock_timestamp())
                AND (j.open_steps = 0 OR EXISTS (
                SELECT 1 FROM jobs_step s WHERE s.job_id = j.id AND s.owner_kind = 'step'
                    AND s.status = 'pending' AND s.deps_left = 0
                    AND s.retry_at IS NULL AND s.loop_id IS NULL))
        ORDER BY j.id LIMIT %s
        """,
        (BATCH,),
    )
    return _each("missed advance", (row[0] for row in rows), advance_again)


@retried
def advance_again(job_id: UUID) -> None:
    """Advance a job from its rows alone."""
    advance = advancing(job_id, blueprints.load)
    if advance is None or JobStatus(advance.state.status).is_final:
        return
    advance.consider(starting.roots_of(job_id))
    advance.run()
    bells.ring_after_commit(advance.bells)


def ring_ready() -> int:
    """Ring for ready rows: a lost message costs one sweep, never a step."""
    rows = fetch(
        "SELECT tag_set_id, count(*) FROM jobs_step WHERE status = 'ready' AND tag_set_id IS NOT"
        " NULL GROUP BY 1",
        (),
    )
    counts = Counter(dict(rows))
    bells.ring({key: min(counts[id], 16) for id, key in reach.keys_of(counts).items()})
    return len(rows)
