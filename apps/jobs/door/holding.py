"""Which attempts are alive, asked from outside of the worker that holds them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from apps.jobs.database.sql import fetch, fetch_one

HELD = """
SELECT a.ended_at IS NULL AND a.lease_until > clock_timestamp(), w.name, r.id, r.digest
FROM jobs_attempt a JOIN jobs_job j ON j.id = a.job_id JOIN workspaces_revision r
    ON r.id = j.revision_id
    JOIN workspaces_workspace w ON w.id = r.workspace_id
WHERE a.id = %s AND a.fence = %s
"""
ENDED = """
SELECT x.name FROM unnest(%s::text[], %s::bigint[], %s::int[], %s::text[]) x(name, step_id, fence,
    job)
JOIN jobs_attempt a ON a.step_id = x.step_id AND a.fence = x.fence
WHERE a.ended_at IS NOT NULL AND right(a.job_id::text, 10) = x.job
"""
_NAME = re.compile(r"([0-9a-f]{10})-([0-9]{1,18})-([0-9]{1,9})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Held:
    """The revision that an attempt's job has pinned; `is_alive` while the attempt has not ended and
    its lease lasts."""

    is_alive: bool
    workspace: str
    revision_id: int
    digest: str


def held(attempt_id: int, fence: int) -> Held | None:
    """None when there is no such attempt (any more)."""
    row = fetch_one(HELD, (attempt_id, fence))
    return Held(*row) if row else None


def ended(names: frozenset[str]) -> frozenset[str]:
    """Those of the named attempts that are over for good. Names of other installations are never
    among them."""
    found = [hit for hit in map(_NAME.fullmatch, names) if hit]
    if not found:
        return frozenset()
    params = (
        [hit[0] for hit in found],
        [int(hit[2]) for hit in found],
        [int(hit[3]) for hit in found],
        [hit[1] for hit in found],
    )
    return frozenset(name for (name,) in fetch(ENDED, params))
