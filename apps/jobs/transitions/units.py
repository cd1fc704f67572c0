"""Units: what workers can claim outside the flow of a job. The statements that claim, renew and end
steps also handle units; this module has the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from apps.jobs.database.sql import fetch
from apps.jobs.transitions import moves
from apps.jobs.transitions.moves import Result
from engine.lifecycle import OwnerKind, StepEventKind, StepStatus

# Unit names contain a slash, which no step name can.
ADD = """
INSERT INTO jobs_step (job_id, name, base, position, kind, status, ready_at, dependents,
    tag_set_id, timeout_s, owner_kind, owner_id, bound_to, lasts)
VALUES (%(job)s, %(name)s, %(name)s, 0, %(kind)s, 'ready', clock_timestamp(), '{}',
    %(tag_set)s, %(timeout_s)s, %(owner_kind)s, %(owner_id)s, %(bound_to)s, %(lasts)s)
ON CONFLICT DO NOTHING RETURNING id
"""
WAITING = (StepStatus.PENDING, StepStatus.READY)
SHIFT = """
UPDATE jobs_step step SET deps_left = greatest(step.deps_left + named.count, 0)
FROM unnest(%s::text[], %s::int[]) named(name, count)
WHERE step.job_id = %s AND step.name = named.name AND step.loop_id IS NULL RETURNING 1
"""


def add(
    job_id: UUID,
    owner_kind: OwnerKind,
    owner_id: int,
    name: str,
    *,
    kind: str,
    tag_set_id: int,
    timeout_s: float | None,
    bound_to: UUID | None = None,
    lasts: bool = False,
) -> int | None:
    """Add a unit that workers may claim; None if its owner already has one with this name."""
    params = {
        "job": job_id,
        "name": f"{owner_kind}/{name}",
        "kind": kind,
        "tag_set": tag_set_id,
        "timeout_s": timeout_s,
        "owner_kind": owner_kind,
        "owner_id": owner_id,
        "bound_to": bound_to,
        "lasts": lasts,
    }
    rows = fetch(ADD, params)
    return rows[0][0] if rows else None


def unbind(unit_id: int) -> None:
    """From now on, any worker may take it."""
    fetch("UPDATE jobs_step SET bound_to = NULL WHERE id = %s", (unit_id,))


def retag(unit_id: int, tag_set_id: int) -> None:
    """From now on, workers of this tag set may take it, if none has it yet."""
    fetch(
        "UPDATE jobs_step SET tag_set_id = %s WHERE id = %s AND status IN ('pending', 'ready')",
        (tag_set_id, unit_id),
    )


def drop(job_id: UUID, unit_ids: Sequence[int], event: StepEventKind, error: str) -> int:
    """End those of the units that no worker has; returns how many."""
    if not unit_ids:
        return 0
    settled = moves.settle(job_id, unit_ids, event, Result(error=error), sources=WAITING)
    return settled.moved


def shift_dependencies(job_id: UUID, counts: Mapping[str, int]) -> int:
    """Let steps of the flow wait for this many more things, or fewer; returns how many steps
    changed."""
    return len(fetch(SHIFT, (list(counts), list(counts.values()), job_id))) if counts else 0
