"""Names of tasks that have jobs, found in an index instead of in all jobs."""

from __future__ import annotations

from apps.jobs.database.sql import fetch

MOST = 200
# Jumps from one (workspace, task) to the next: as many steps as there are tasks.
NAMES = """
WITH RECURSIVE known AS (
    (SELECT workspace_id, task_name FROM jobs_job ORDER BY workspace_id, task_name LIMIT 1)
    UNION ALL
    SELECT following.* FROM known CROSS JOIN LATERAL (
        SELECT j.workspace_id, j.task_name FROM jobs_job j
        WHERE (j.workspace_id, j.task_name) > (known.workspace_id, known.task_name)
        ORDER BY j.workspace_id, j.task_name LIMIT 1
    ) following
)
SELECT DISTINCT task_name FROM known
WHERE position(lower(%s) IN lower(task_name)) > 0 LIMIT %s
"""


def tasks_with(text: str) -> list[str] | None:
    """The tasks whose name contains `text`, whatever its case; None if there are very many."""
    found = [name for (name,) in fetch(NAMES, (text, MOST + 1))]
    return None if len(found) > MOST else found
