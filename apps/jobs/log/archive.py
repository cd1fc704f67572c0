"""Lines that have left the database, as batches with the ids that they had here: the door to the
room that keeps them, and how they are merged with those that are still here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Protocol
from uuid import UUID

from engine.errors import PlatformError


class LogsAway(PlatformError):
    """Lines are in the storage and cannot be read from there now."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of lines that was a row of `jobs_logchunk`."""

    id: int
    job_id: UUID
    step_id: int | None
    attempt_id: int
    line_count: int
    size: int  # of the text in UTF-8
    at: datetime
    lines: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Batches of these steps, or of these attempts; None: of all."""

    steps: frozenset[int] | None = None
    attempts: frozenset[int] | None = None

    def has(self, step_id: int, attempt_id: int) -> bool:
        return (self.steps is None or step_id in self.steps) and (
            self.attempts is None or attempt_id in self.attempts
        )


@dataclass(frozen=True, slots=True)
class Part:
    """Batches in the order of their ids, and whether more follow."""

    batches: Sequence[Batch] = ()
    has_more: bool = False


class Archive(Protocol):
    """The room that keeps lines. `wanted` is asked only where there are any. All may raise
    LogsAway."""

    def after(
        self,
        job_ids: Collection[UUID],
        after: int,
        seen: Collection[int],
        wanted: Callable[[], Wanted],
        most_bytes: int,
    ) -> Part:
        """The next batches after an id, but for those in `seen`: about `most_bytes`, at least
        one."""

    def start_of_tail(self, job_id: UUID, wanted: Callable[[], Wanted], lines: int) -> int:
        """The id after which about the last `lines` lines begin; 0 for all of them."""

    def time_of(self, job_id: UUID, id: int) -> datetime | None:
        """When this batch arrived."""

    def late(
        self, job_id: UUID, wanted: Callable[[], Wanted], until: int, since: datetime
    ) -> list[Batch]:
        """Batches before `until` that arrived after `since`."""


_doors: list[Callable[[], Archive]] = []


def keep(door: Callable[[], Archive]) -> None:
    """Register the room that keeps lines."""
    _doors[:] = [door]
    archive.cache_clear()


@cache
def archive() -> Archive:
    (door,) = _doors
    return door()


Row = tuple[int, int, bool]  # id, size, whether no older one can still appear


@dataclass(frozen=True, slots=True)
class Listed:
    """What there is to read next, in order; `kept`: those of it that come from the archive."""

    rows: Sequence[Row]
    kept: Mapping[int, Batch]
    has_more: bool


def merged(here: Sequence[Row], part: Part, *, is_cut: bool) -> Listed:
    """Both in one order, as far as both are known. What moved in between is in both."""
    kept = {batch.id: batch for batch in part.batches}
    rows = [row for row in here if row[0] not in kept]
    rows = sorted(rows + [(batch.id, batch.size, True) for batch in part.batches])
    ends = [here[-1][0]] if is_cut else []
    if part.has_more:
        ends.append(part.batches[-1].id)
    if ends:
        rows = [row for row in rows if row[0] <= min(ends)]
    return Listed(rows, kept, bool(ends))
