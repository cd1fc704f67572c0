"""The common end of a step as one statement: it succeeded, and its dependents need no decision.

Same effect as `moves.settle` and `moves.unblock` under `Advance`, for a step of the flow whose
dependents have neither condition nor loop and run on workers, in a job without failures. Elsewhere
the statement refuses (changes nothing) and the general path decides. A property test compares both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import jsonb, statement
from apps.jobs.transitions.moves import Result

# Wait for the lock here, so that the next statement starts with a current snapshot of the job: a
# statement that waits halfway must look up every row that it changes a second time.
LOCK = "SELECT 1 FROM jobs_job WHERE id = %(job)s FOR NO KEY UPDATE"
COMPLETE = statement(__file__, "complete")


@dataclass(frozen=True, slots=True)
class Completion:
    """Parameters of the statement."""

    job_id: UUID
    step_id: int
    fence: int
    attempt_id: int
    exit_code: int | None
    result: Result
    input: Any

    @property
    def params(self) -> dict[str, Any]:
        result = self.result
        return {
            "job": self.job_id,
            "step": self.step_id,
            "fence": self.fence,
            "attempt": self.attempt_id,
            "exit_code": self.exit_code,
            "output": jsonb(result.output) if result.has_output else None,
            "has_output": result.has_output,
            "sealed": result.output_sealed,
            "input": jsonb(self.input) if self.input else None,
        }


def read(row: tuple[Any, ...]) -> dict[int, int] | None:
    """How many steps became ready, by tag set id; None if the statement refused."""
    if not row[0]:
        return None
    numbers = map(int, (row[1] or "").split())
    return dict(zip(numbers, numbers, strict=True))
