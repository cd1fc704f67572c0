"""What is told to those who follow a job."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Relative:
    """A job that another one set off: its retry, a step's child job, or a hook's job."""

    id: UUID
    retry_of: UUID | None
    parent: UUID | None
    parent_step: str
    source_type: str
    source_id: str
    task: str


@dataclass(frozen=True, slots=True)
class StepNews:
    """A step that runs, waits for a decision or has just ended, `seconds` since its start; or one
    that failed and is tried again in `seconds`."""

    id: int
    job_id: UUID
    name: str
    status: str
    error: str
    seconds: float
