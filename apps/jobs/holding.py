"""Which attempts are alive, asked from outside of the worker that holds them."""

from __future__ import annotations

from dataclasses import dataclass

from apps.jobs.sql import fetch_one

HELD = """
SELECT a.ended_at IS NULL AND a.lease_until > clock_timestamp(), w.name, r.id, r.digest
FROM jobs_attempt a JOIN jobs_job j ON j.id = a.job_id JOIN workspaces_revision r ON r.id = j.revision_id
    JOIN workspaces_workspace w ON w.id = r.workspace_id
WHERE a.id = %s AND a.fence = %s
"""


@dataclass(frozen=True, slots=True)
class Held:
    """The revision that an attempt's job has pinned; `is_alive` while the attempt has not ended and its lease lasts."""

    is_alive: bool
    workspace: str
    revision_id: int
    digest: str


def held(attempt_id: int, fence: int) -> Held | None:
    """None when there is no such attempt (any more)."""
    row = fetch_one(HELD, (attempt_id, fence))
    return Held(*row) if row else None
