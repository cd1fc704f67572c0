"""What workers and the platform tell each other about files. Frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
    is_program: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """A file of another step of the job, for one that takes it."""

    step_name: str
    name: str
    blob_id: int
    size: int
    is_program: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """The lower of two limits, in seconds or bytes."""

    amount: float
    is_of_files: bool

    def source(self, name: str) -> str:
        """The setting, so that whoever reads of it finds it."""
        return f"`settings.{name}` of the workspace's files" if self.is_of_files else f"`{name}`"


def tighter(
    own: Mapping[str, Any] | None, kept_s: float | None, kept_bytes: int | None
) -> tuple[Bound | None, Bound | None]:
    """The lower of the operator's limits and the workspace's `own`, which are those of its frozen
    definition."""
    given = own or {}
    retain, most_mb = given.get("retain"), given.get("workspace_mb")
    return (
        _lower(None if retain is None else float(retain["seconds"]), kept_s),
        _lower(None if most_mb is None else int(most_mb) << 20, kept_bytes),
    )


def _lower(own: float | None, kept: float | None) -> Bound | None:
    if own is None or (kept is not None and kept <= own):
        return None if kept is None else Bound(kept, is_of_files=False)
    return Bound(own, is_of_files=True)
