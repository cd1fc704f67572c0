"""Log lines: stored in batches that may be sent twice, read back in order of arrival."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_one
from apps.jobs.values import Claim
from engine.orders import Line

# The day of the claim, so that a repeated batch meets the partition with its first copy.
APPEND = """
WITH a AS (
    SELECT job_id, step_id, (claimed_at AT TIME ZONE 'UTC')::date AS day FROM jobs_attempt
    WHERE id = %(attempt)s AND fence = %(fence)s AND ended_at IS NULL
),
i AS (
    INSERT INTO jobs_logchunk (day, attempt_id, seq, job_id, step_id, lines, line_count)
    SELECT a.day, %(attempt)s, %(seq)s, a.job_id, a.step_id, %(lines)s, %(count)s FROM a
        ON CONFLICT DO NOTHING
)
SELECT 1 FROM a
"""
SERVER_LINE = """
INSERT INTO jobs_logchunk (day, attempt_id, seq, job_id, step_id, lines, line_count)
VALUES ((clock_timestamp() AT TIME ZONE 'UTC')::date, 0, nextval('jobs_logchunk_id_seq'), %s, %s,
    %s, 1)
"""


def append(claim: Claim, seq: int, lines: Sequence[Line]) -> bool:
    """Store a batch; repeating (attempt, seq) changes nothing. False if the attempt has ended."""
    return fetch_one(APPEND, append_params(claim, seq, lines)) is not None


def append_params(claim: Claim, seq: int, lines: Sequence[Line]) -> dict[str, Any]:
    return {
        "attempt": claim.attempt_id,
        "fence": claim.fence,
        "seq": seq,
        "lines": "".join(record(line.at, line.stream, claim.log_name, line.text) for line in lines),
        "count": len(lines),
    }


def say(job_id: UUID, text: str, *, at: float, step_id: int | None = None) -> None:
    """Add a server line to the job's log, under the step name `_server`, and to that of a step if
    it is about one."""
    fetch(SERVER_LINE, (job_id, step_id, record(at, "stderr", "_server", text)))


def record(at: float, stream: str, step: str, text: str) -> str:
    ts = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record = {"ts": ts, "stream": stream, "step": step, "line": text.replace("\x00", "\ufffd")}
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "replace").decode() + "\n"
