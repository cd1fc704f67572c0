"""The pen of workflow actions: guarded moves, and the sets that they count.

Every change of an action holds the lock of its job, except a claim, which only marks it as running.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_one
from apps.jobs.transitions import moves as step_pen
from apps.jobs.transitions import units
from engine.lifecycle import (
    ACTION_TABLE,
    FINAL_ACTION,
    FINAL_STEP,
    ActionEventKind,
    sources,
    target,
)

FINAL = [status.value for status in FINAL_STEP]

# A step behind a barrier is ready once only barriers hold it back. A loop instance is ready as soon
# as its loop is open: `max_parallel` is not a dependency.
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
LABEL = "coalesce(nullif(name, ''), 'workflow_actions[' || index || ']')"
MOVE = """
UPDATE workflow_actions_jobaction SET status = %(to)s::text, reason = %(reason)s::text,
    outcome = CASE WHEN %(outcome)s::text = '' THEN outcome ELSE %(outcome)s::text END,
    armed_at = CASE WHEN %(to)s::text = 'armed' AND armed_at IS NULL THEN clock_timestamp()
        ELSE armed_at END,
    ended_at = CASE WHEN %(is_final)s::bool THEN clock_timestamp() END,
    is_settled = NOT %(is_final)s::bool OR %(to)s::text = 'superseded'
WHERE id = %(id)s AND status = ANY(%(sources)s) RETURNING job_id, LABEL
""".replace("LABEL", LABEL)
CLAIMED = """
WITH claimed AS (
    UPDATE workflow_actions_jobaction SET status = %(to)s::text
    WHERE id = %(id)s AND status = ANY(%(sources)s)
)
SELECT LABEL FROM workflow_actions_jobaction WHERE id = %(id)s
""".replace("LABEL", LABEL)
HOLD = """
INSERT INTO workflow_actions_hold (action_id, job_id, step_name)
SELECT %(action)s, s.job_id, s.name FROM jobs_step s
WHERE s.job_id = %(job)s AND s.name = ANY(%(names)s) AND s.loop_id IS NULL
    AND s.status = 'pending'
ON CONFLICT DO NOTHING RETURNING step_name
"""
RELEASE = """
UPDATE workflow_actions_hold SET released_at = clock_timestamp()
WHERE action_id = ANY(%(actions)s) AND released_at IS NULL RETURNING step_name
"""
FORGET_HOLDS = """
UPDATE workflow_actions_hold SET released_at = clock_timestamp()
WHERE job_id = %s AND released_at IS NULL
"""


def reach(job_id: UUID, generation: int, names: Collection[str] | None) -> set[int]:
    """Note which watched steps have reached their target; returns the ids of the actions
    concerned."""
    params = {
        "job": job_id,
        "generation": generation,
        "names": None if names is None else list(names),
        "final": FINAL,
    }
    return {row[0] for row in fetch(REACH, params)}


def complete_sets(job_id: UUID, generation: int, action_ids: Collection[int] | None) -> list[int]:
    """The waiting actions all of whose steps have reached their target, in file order."""
    ids = None if action_ids is None else list(action_ids)
    return [
        row[0] for row in fetch(COMPLETE, {"job": job_id, "generation": generation, "ids": ids})
    ]


def add_members(action_id: int, job_id: UUID, names: Sequence[str]) -> None:
    fetch(ADD_MEMBERS, (action_id, job_id, list(names)))


def move_action(
    action_id: int, event: ActionEventKind, *, reason: str = "", outcome: str = ""
) -> bool:
    """Move an action and add it to its job's history; False if `event` cannot leave its status."""
    to = target(ACTION_TABLE, event)
    params = {
        "id": action_id,
        "to": to,
        "sources": list(sources(ACTION_TABLE, event)),
        "reason": reason,
        "outcome": outcome,
        "is_final": to in FINAL_ACTION,
    }
    row = fetch_one(MOVE, params)
    if row is None:
        return False
    job_id, label = row
    step_pen.note(job_id, f"action_{to}", f"{label}: {reason}" if reason else label)
    return True


def claimed(action_id: int) -> str:
    """A worker has begun the action, or its share of it; returns the name that people see."""
    event = ActionEventKind.CLAIMED
    params = {
        "id": action_id,
        "to": target(ACTION_TABLE, event),
        "sources": list(sources(ACTION_TABLE, event)),
    }
    row = fetch_one(CLAIMED, params)
    assert row is not None
    return str(row[0])


def hold(action_id: int, job_id: UUID, names: Sequence[str]) -> None:
    """Make pending steps of the flow wait for the action."""
    rows = fetch(HOLD, {"action": action_id, "job": job_id, "names": list(names)})
    units.shift_dependencies(job_id, {name: 1 for (name,) in rows})


def release(job_id: UUID, action_ids: Sequence[int]) -> int:
    """Release what these actions hold back; returns how many steps."""
    held = Counter(name for (name,) in fetch(RELEASE, {"actions": list(action_ids)}))
    return units.shift_dependencies(job_id, {name: -count for name, count in held.items()})


def forget_holds(job_id: UUID) -> None:
    """Release all holds: a restart has recomputed what each step waits for."""
    fetch(FORGET_HOLDS, (job_id,))


def settled(action_ids: Sequence[int]) -> None:
    """Note that these ended actions have been followed up."""
    fetch(
        "UPDATE workflow_actions_jobaction SET is_settled = true WHERE id = ANY(%s)",
        (list(action_ids),),
    )
