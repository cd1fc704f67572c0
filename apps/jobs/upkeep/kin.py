"""Which jobs something open belongs to: a parent or a child, the job that is being retried or its
retry, the job whose end or action has set it off."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from apps.jobs.database.sql import fetch

# From the open jobs, which are few, in all directions.
BUSY = """
WITH RECURSIVE kin AS (
    SELECT id FROM jobs_job WHERE status IN ('pending', 'running')
    UNION
    SELECT n.id FROM kin k JOIN jobs_job j ON j.id = k.id CROSS JOIN LATERAL (
        SELECT unnest(ARRAY[j.parent_job_id, j.retry_of_id, j.retry_job_id]) AS id
        UNION ALL SELECT c.id FROM jobs_job c WHERE c.parent_job_id = j.id
        UNION ALL SELECT h.id FROM jobs_job h
            WHERE h.source_type IN ('hook', 'workflow_action') AND h.source_id = j.id::text
        UNION ALL SELECT substring(j.source_id FROM '^[0-9a-f-]{36}')::uuid
            WHERE j.source_type IN ('hook', 'workflow_action')
    ) n WHERE n.id IS NOT NULL
)
SELECT id FROM kin WHERE id = ANY(%s)
"""


def busy(job_ids: Collection[UUID]) -> set[UUID]:
    """Those of these jobs that are open, or that something open belongs to."""
    return {row[0] for row in fetch(BUSY, (list(job_ids),))} if job_ids else set()
