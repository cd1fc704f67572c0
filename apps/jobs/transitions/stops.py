"""Asking a job to stop: because somebody cancels it, or because its time is up."""

from __future__ import annotations

from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_one, storable

STOP = """
UPDATE jobs_job SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()),
    cancel_reason = CASE WHEN cancel_reason = '' OR is_timed_out THEN %(reason)s
        ELSE cancel_reason END,
    is_timed_out = false
WHERE id = %(id)s
"""
STOP_IN_TIME = """
UPDATE jobs_job SET cancel_requested_at = clock_timestamp(), is_timed_out = true,
    cancel_reason = concat_ws('; ', nullif(cancel_reason, ''), %(reason)s::text)
WHERE id = %(id)s AND cancel_requested_at IS NULL AND deadline_at <= clock_timestamp()
RETURNING 1
"""


def stop(job_id: UUID, reason: str) -> None:
    """Ask the job to stop. A person's cancel takes the place of a time-out under way. Called with
    the job locked."""
    fetch(STOP, {"id": job_id, "reason": storable(reason)})


def stop_in_time(job_id: UUID, reason: str) -> bool:
    """Ask the job to stop because its time is up; False if it is stopping already, or has been
    given more time. Called with the job locked."""
    return fetch_one(STOP_IN_TIME, {"id": job_id, "reason": storable(reason)}) is not None


def stop_of(job_id: UUID) -> tuple[str, bool]:
    """Why the job stops or fails apart from its steps, and whether its time-out stops it."""
    row = fetch_one("SELECT cancel_reason, is_timed_out FROM jobs_job WHERE id = %s", (job_id,))
    return row if row else ("", False)
