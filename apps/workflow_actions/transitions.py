"""The pen of workflow actions: guarded moves of actions and of their runs, and the sets that they
count.

Whatever changes an action holds the lock of its job; a claim takes only the run and marks the
action as running.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_one
from engine.lifecycle import FINAL_STEP

FINAL = [status.value for status in FINAL_STEP]
UNENDED = ("waiting", "held", "armed", "running")

# A step of a barrier is ready once nothing but barriers holds it back. An instance of a loop is
# ready as soon as its loop is open: `max_parallel` is no dependency.
REACH = """
UPDATE workflow_actions_member m SET reached_at = clock_timestamp(), outcome = s.status,
    is_unreachable = a.trigger_type = 'on_jobs_ready' AND s.status = ANY(%(final)s)
        AND s.ready_at IS NULL
        AND s.started_at IS NULL AND s.suspended_at IS NULL
FROM workflow_actions_jobaction a, jobs_step s
WHERE a.job_id = %(job)s AND a.generation = %(generation)s AND a.status = 'waiting'
    AND m.action_id = a.id
    AND m.job_id = a.job_id AND m.reached_at IS NULL AND s.job_id = a.job_id
        AND s.name = m.step_name
    AND (%(names)s::text[] IS NULL OR s.name = ANY(%(names)s))
    AND (s.status = ANY(%(final)s) OR (a.trigger_type = 'on_jobs_ready' AND (
        s.status <> 'pending' OR s.loop_id IS NOT NULL OR s.retry_at IS NOT NULL
        OR (a.is_barrier AND s.deps_left = (SELECT count(*) FROM workflow_actions_hold h
            WHERE h.job_id = s.job_id AND h.step_name = s.name AND h.released_at IS NULL)))))
RETURNING a.id
"""
COMPLETE = """
SELECT a.id FROM workflow_actions_jobaction a
WHERE a.job_id = %(job)s AND a.generation = %(generation)s AND a.status = 'waiting'
    AND NOT a.may_grow
    AND a.trigger_type IN ('on_jobs_ready', 'on_jobs_complete')
        AND (%(ids)s::bigint[] IS NULL OR a.id = ANY(%(ids)s))
    AND NOT EXISTS (SELECT 1 FROM workflow_actions_member m WHERE m.action_id = a.id
        AND m.reached_at IS NULL)
ORDER BY a.index
"""
ADD_MEMBERS = """
INSERT INTO workflow_actions_member (action_id, job_id, step_name)
SELECT %s, %s, unnest(%s::text[]) ON CONFLICT DO NOTHING
"""
# Every move is an event of the job: people see it in its history, and open pages learn from it that
# they must look.
LABEL = "coalesce(nullif(a.name, ''), 'workflow_actions[' || a.index || ']')"
MOVE = """
WITH a AS (
UPDATE workflow_actions_jobaction SET status = %(to)s::text, reason = %(reason)s::text,
    outcome = CASE WHEN %(outcome)s::text = '' THEN outcome ELSE %(outcome)s::text END,
    armed_at = CASE WHEN %(to)s::text = 'armed' AND armed_at IS NULL THEN clock_timestamp()
        ELSE armed_at END,
    ended_at = CASE WHEN %(is_final)s::bool THEN clock_timestamp() END,
    is_settled = NOT %(is_final)s::bool OR %(to)s::text = 'superseded'
WHERE id = %(id)s AND status = ANY(%(sources)s) RETURNING id, job_id, name, index
),
e AS (
    INSERT INTO jobs_stepevent (job_id, kind, detail, actor)
    SELECT a.job_id, 'action_' || %(to)s::text,
        left(LABEL || coalesce(': ' || nullif(%(reason)s::text, ''), ''), 500), ''
    FROM a
)
SELECT 1 FROM a
""".replace("LABEL", LABEL)
ADD_RUN = """
INSERT INTO workflow_actions_actionrun
    (action_id, job_id, session_id, bound_to, number, losses, tag_set_id, due_at, status)
VALUES (%(action)s, %(job)s, %(session)s, %(bound_to)s, %(number)s, %(losses)s, %(tag_set)s,
    clock_timestamp() + make_interval(secs => %(wait_s)s), 'ready')
ON CONFLICT DO NOTHING RETURNING id
"""
CLAIM = """
WITH c AS (
    SELECT id FROM workflow_actions_actionrun
    WHERE status = 'ready' AND tag_set_id = ANY(%(sets)s) AND due_at <= clock_timestamp()
        AND (bound_to = %(worker)s OR (bound_to IS NULL AND NOT %(only_bound)s::bool))
        AND (%(job)s::uuid IS NULL OR job_id = %(job)s)
    ORDER BY id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
),
r AS (
    UPDATE workflow_actions_actionrun t SET status = 'running', fence = t.fence + 1,
        worker_id = %(worker)s,
        lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s),
            started_at = clock_timestamp()
    FROM c WHERE t.id = c.id AND t.status = 'ready'
    RETURNING t.id, t.action_id, t.job_id, t.fence, t.number, t.session_id
),
a AS (
    UPDATE workflow_actions_jobaction t SET status = 'running' FROM r WHERE t.id = r.action_id
        AND t.status = 'armed'
),
e AS (
    INSERT INTO jobs_stepevent (job_id, kind, detail, actor)
    SELECT r.job_id, 'action_running', LABEL || CASE WHEN r.number > 1 THEN ', try ' || r.number
        ELSE '' END,
        coalesce((SELECT left(name, 254) FROM fleet_worker WHERE id = %(worker)s), '')
    FROM r JOIN workflow_actions_jobaction a ON a.id = r.action_id
)
SELECT r.id, r.action_id, r.job_id, r.fence, r.number, r.session_id FROM r
""".replace("LABEL", LABEL)
RENEW = """
WITH r AS (
    UPDATE workflow_actions_actionrun t
        SET lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s),
        command = x.command
    FROM unnest(%(ids)s::bigint[], %(fences)s::int[], %(commands)s::int[]) x(id, fence, command)
    WHERE t.id = x.id AND t.fence = x.fence AND t.status = 'running' AND t.worker_id = %(worker)s
    RETURNING t.id, t.job_id, t.action_id, t.started_at
)
SELECT r.id, j.cancel_requested_at > r.started_at AND a.trigger_type <> ALL(%(lasting)s)
FROM r JOIN jobs_job j ON j.id = r.job_id JOIN workflow_actions_jobaction a ON a.id = r.action_id
"""
# The end of a run that ends its action too is told by the move of the action.
END_RUN = """
WITH r AS (
UPDATE workflow_actions_actionrun SET status = %(to)s::text, ended_at = clock_timestamp(),
    exit_code = %(exit_code)s::int, error = %(error)s::text,
        command = coalesce(%(command)s::int, command)
WHERE id = %(id)s AND fence = %(fence)s AND status = 'running'
RETURNING action_id, job_id, session_id, bound_to, number, losses, tag_set_id
),
e AS (
    INSERT INTO jobs_stepevent (job_id, kind, detail, actor)
    SELECT r.job_id, 'action_run_' || %(to)s::text,
        left(LABEL || ', try ' || r.number || coalesce(': ' || nullif(%(error)s::text, ''), ''),
            500), ''
    FROM r JOIN workflow_actions_jobaction a ON a.id = r.action_id
    WHERE r.session_id IS NOT NULL OR %(to)s::text IN ('failed', 'lost')
)
SELECT action_id, job_id, session_id, bound_to, number, losses, tag_set_id FROM r
""".replace("LABEL", LABEL)
DROP_RUNS = """
UPDATE workflow_actions_actionrun SET status = %(to)s::text, ended_at = clock_timestamp(),
    error = %(error)s::text
WHERE action_id = ANY(%(actions)s) AND status = 'ready'
    AND (%(runs)s::bigint[] IS NULL OR id = ANY(%(runs)s))
RETURNING action_id
"""
HOLD = """
WITH h AS (
    INSERT INTO workflow_actions_hold (action_id, job_id, step_name)
    SELECT %(action)s, s.job_id, s.name FROM jobs_step s
    WHERE s.job_id = %(job)s AND s.name = ANY(%(names)s) AND s.loop_id IS NULL
        AND s.status = 'pending'
    ON CONFLICT DO NOTHING RETURNING step_name
)
UPDATE jobs_step t SET deps_left = t.deps_left + 1 FROM h WHERE t.job_id = %(job)s
    AND t.name = h.step_name
"""
RELEASE = """
WITH h AS (
    UPDATE workflow_actions_hold SET released_at = clock_timestamp()
    WHERE action_id = ANY(%(actions)s) AND released_at IS NULL RETURNING step_name
),
n AS (SELECT step_name, count(*) AS total FROM h GROUP BY step_name)
UPDATE jobs_step t SET deps_left = greatest(t.deps_left - n.total, 0)
FROM n WHERE t.job_id = %(job)s AND t.name = n.step_name AND t.loop_id IS NULL RETURNING t.id
"""


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that just ended: what another one of it needs."""

    action_id: int
    job_id: UUID
    session_id: int | None
    bound_to: UUID | None
    number: int
    losses: int
    tag_set_id: int


def reach(job_id: UUID, generation: int, names: Collection[str] | None) -> set[int]:
    """Note which watched steps have reached what is waited for; ids of the actions that this
    concerns."""
    params = {
        "job": job_id,
        "generation": generation,
        "names": None if names is None else list(names),
        "final": FINAL,
    }
    return {row[0] for row in fetch(REACH, params)}


def complete_sets(job_id: UUID, generation: int, action_ids: Collection[int] | None) -> list[int]:
    """Those waiting actions all of whose steps have reached what is waited for, in the order of the
    file."""
    ids = None if action_ids is None else list(action_ids)
    return [
        row[0] for row in fetch(COMPLETE, {"job": job_id, "generation": generation, "ids": ids})
    ]


def add_members(action_id: int, job_id: UUID, names: Sequence[str]) -> None:
    fetch(ADD_MEMBERS, (action_id, job_id, list(names)))


def move_action(
    action_id: int,
    to: str,
    *,
    sources: Sequence[str] = UNENDED,
    reason: str = "",
    outcome: str = "",
) -> bool:
    """Move an action; False when it is not where it may be taken from."""
    params = {
        "id": action_id,
        "to": to,
        "sources": list(sources),
        "reason": reason,
        "outcome": outcome,
        "is_final": to not in UNENDED,
    }
    return fetch_one(MOVE, params) is not None


def add_run(
    action_id: int,
    job_id: UUID,
    tag_set_id: int,
    *,
    session_id: int | None = None,
    bound_to: UUID | None = None,
    number: int = 1,
    losses: int = 0,
    wait_s: float = 0.0,
) -> int | None:
    """A run that may be taken; None when there is one already."""
    params = {
        "action": action_id,
        "job": job_id,
        "session": session_id,
        "bound_to": bound_to,
        "number": number,
        "losses": losses,
        "tag_set": tag_set_id,
        "wait_s": wait_s,
    }
    row = fetch_one(ADD_RUN, params)
    return row[0] if row else None


def claim_run(
    worker_id: UUID,
    tag_set_ids: Sequence[int],
    *,
    lease_s: float,
    job_id: UUID | None,
    only_bound: bool = False,
) -> tuple[Any, ...] | None:
    """Take the oldest run that this worker may do: (id, action, job, fence, number, session)."""
    params = {
        "sets": list(tag_set_ids),
        "worker": worker_id,
        "job": job_id,
        "lease_s": lease_s,
        "only_bound": only_bound,
    }
    return fetch_one(CLAIM, params)


def renew_runs(
    worker_id: UUID, live: Mapping[int, tuple[int, int]], *, lease_s: float, lasting: Sequence[str]
) -> dict[int, bool]:
    """Extend the leases of runs (id -> fence, commands begun). Those still ours, and whether each
    must stop.

    `lasting`: triggers whose actions go on when their job is cancelled.
    """
    params = {
        "worker": worker_id,
        "ids": list(live),
        "fences": [fence for fence, _ in live.values()],
        "commands": [command for _, command in live.values()],
        "lease_s": lease_s,
        "lasting": list(lasting),
    }
    return {row[0]: bool(row[1]) for row in fetch(RENEW, params)}


def end_run(
    run_id: int,
    fence: int,
    to: str,
    *,
    exit_code: int | None = None,
    error: str = "",
    command: int | None = None,
) -> EndedRun | None:
    """End a running run; None when the fence says that it is not the caller's any more."""
    params = {
        "id": run_id,
        "fence": fence,
        "to": to,
        "exit_code": exit_code,
        "error": error,
        "command": command,
    }
    row = fetch_one(END_RUN, params)
    return EndedRun(*row) if row else None


def drop_runs(
    action_ids: Sequence[int], to: str, error: str, *, run_ids: Sequence[int] | None = None
) -> list[int]:
    """End runs that nobody has begun; ids of their actions."""
    ids = None if run_ids is None else list(run_ids)
    return [
        row[0]
        for row in fetch(
            DROP_RUNS, {"actions": list(action_ids), "to": to, "error": error, "runs": ids}
        )
    ]


def hold(action_id: int, job_id: UUID, names: Sequence[str]) -> None:
    """Let pending steps of the flow wait for the action."""
    fetch(HOLD, {"action": action_id, "job": job_id, "names": list(names)})


def release(job_id: UUID, action_ids: Sequence[int]) -> int:
    """Let go what these actions hold back; how many steps that were."""
    return len(fetch(RELEASE, {"job": job_id, "actions": list(action_ids)}))


def settled(action_ids: Sequence[int]) -> None:
    """What followed from the end of these actions was done."""
    fetch(
        "UPDATE workflow_actions_jobaction SET is_settled = true WHERE id = ANY(%s)",
        (list(action_ids),),
    )
