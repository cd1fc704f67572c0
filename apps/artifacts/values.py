"""What workers and the platform tell each other about files. Frozen."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Of files that steps leave; None: no limit."""

    file_bytes: int
    job_bytes: int
    workspace_bytes: int | None
    files: int
    patience_s: float  # for a storage that does not answer


@dataclass(frozen=True, slots=True)
class Left:
    """A file whose bytes are stored, of an attempt under way."""

    name: str
    content_type: str
    blob_id: int
    size: int


@dataclass(frozen=True, slots=True)
class Taken:
    """A file of another step of the job, for one that takes it."""

    step_name: str
    name: str
    blob_id: int
    size: int
