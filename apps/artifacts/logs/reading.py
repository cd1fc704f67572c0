"""Lines out of the storage: the index says which frames hold them, and only those are fetched and
unpacked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from apps.artifacts import blobs
from apps.artifacts.errors import ForeignStorage, StorageAway
from apps.artifacts.logs.packing import unpack
from apps.artifacts.models import Blob, LogFrame
from apps.jobs.log.archive import Batch, LogsAway, Part, Wanted

# Frames of a volume that lie side by side are fetched together, up to so much text.
MOST_AT_ONCE = 4_000_000
SMALLEST_FETCH = 1_000_000


class Row(NamedTuple):
    job_id: UUID
    blob_id: int
    place: int
    size_bytes: int
    raw_bytes: int
    first_id: int
    last_id: int
    steps: list[int]
    attempts: list[int]
    lines: list[int]

    def count(self, wanted: Wanted) -> int:
        """How many of its lines are wanted."""
        parts = zip(self.steps, self.attempts, self.lines, strict=True)
        return sum(lines for step, attempt, lines in parts if wanted.has(step, attempt))


class Archive:
    """Implements `apps.jobs.log.archive.Archive`."""

    def after(
        self,
        job_ids: Collection[UUID],
        after: int,
        seen: Collection[int],
        wanted: Callable[[], Wanted],
        most_bytes: int,
    ) -> Part:
        """Frames of several jobs may overlap: what comes first of all is kept, and frames are
        opened until none can hold anything before its end."""
        rows = _rows(job_id__in=job_ids, last_id__gt=after)
        if not rows:
            return Part()
        choice, known = wanted(), frozenset(seen)
        rows = [row for row in rows if row.count(choice)]
        kept: list[Batch] = []
        horizon: int | None = None

        def chooses(id: int, step_id: int, attempt_id: int) -> bool:
            is_next = after < id and (horizon is None or id <= horizon)
            return is_next and id not in known and choice.has(step_id, attempt_id)

        for row, content in _contents(rows, most_bytes):
            if horizon is not None and row.first_id > horizon:
                break
            kept += unpack(content, row.raw_bytes, chooses)
            kept.sort(key=lambda batch: batch.id)
            fits = _fitting(kept, most_bytes)
            if fits < len(kept):
                del kept[fits:]
                horizon = kept[-1].id
        return Part(kept, horizon is not None)

    def start_of_tail(self, job_id: UUID, wanted: Callable[[], Wanted], lines: int) -> int:
        rows = _rows(job_id=job_id)
        if not rows:
            return 0
        choice = wanted()
        missing = lines
        rows = [row for row in rows if row.count(choice)]
        for place in range(len(rows) - 1, -1, -1):
            count = rows[place].count(choice)
            if count >= missing:
                before = rows[place - 1].last_id if place else 0
                return self._start_within(rows[place], choice, missing, before)
            missing -= count
        return 0

    def _start_within(self, row: Row, choice: Wanted, lines: int, before: int) -> int:
        """The id after which the last of these lines begin, which are all in this frame; `before`:
        the last id before it."""
        if lines <= 0:
            return row.last_id
        batches = self._batches([row], lambda id, step, attempt: choice.has(step, attempt))
        ids = [before, *(batch.id for batch in batches)]
        while batches and lines > 0:
            lines -= batches.pop().line_count
        return ids[len(batches)]

    def time_of(self, job_id: UUID, id: int) -> datetime | None:
        rows = _rows(job_id=job_id, first_id__lte=id, last_id__gte=id)
        found = self._batches(rows, lambda one, step, attempt: one == id)
        return found[0].at if found else None

    def late(
        self, job_id: UUID, wanted: Callable[[], Wanted], until: int, since: datetime
    ) -> list[Batch]:
        rows = _rows(job_id=job_id, first_id__lt=until, last_at__gt=since)
        if not rows:
            return []
        choice = wanted()
        rows = [row for row in rows if row.count(choice)]
        found = self._batches(rows, lambda id, step, at: id < until and choice.has(step, at))
        return [batch for batch in found if batch.at > since]

    def _batches(
        self, rows: Sequence[Row], chooses: Callable[[int, int, int], bool]
    ) -> list[Batch]:
        return [
            batch
            for row, content in _contents(rows, MOST_AT_ONCE)
            for batch in unpack(content, row.raw_bytes, chooses)
        ]


def _rows(**chosen: object) -> list[Row]:
    found = LogFrame.objects.filter(**chosen).order_by("first_id")
    return [Row(*row) for row in found.values_list(*Row._fields)]


def _fitting(batches: Sequence[Batch], most_bytes: int) -> int:
    """How many of them fit, at least one."""
    total = 0
    for count, batch in enumerate(batches):
        total += batch.size
        if count and total > most_bytes:
            return count
    return len(batches)


def _contents(rows: Sequence[Row], most_bytes: int) -> Iterator[tuple[Row, bytes]]:
    """Each frame's bytes. What lies side by side comes with one request."""
    at, most = 0, max(SMALLEST_FETCH, min(most_bytes, MOST_AT_ONCE))
    while at < len(rows):
        end, raw = at + 1, rows[at].raw_bytes
        while end < len(rows) and _is_next(rows[end - 1], rows[end]):
            raw += rows[end].raw_bytes
            if raw > most:
                break
            end += 1
        group = rows[at:end]
        content = _fetched(group[0].blob_id, group[0].place, sum(row.size_bytes for row in group))
        for row in group:
            start = row.place - group[0].place
            yield row, content[start : start + row.size_bytes]
        at = end


def _is_next(one: Row, other: Row) -> bool:
    return one.blob_id == other.blob_id and one.place + one.size_bytes == other.place


def _fetched(blob_id: int, place: int, length: int) -> bytes:
    try:
        return b"".join(blobs.pieces(Blob.objects.get(pk=blob_id), place, length))
    except Blob.DoesNotExist:  # they were removed meanwhile
        raise LogsAway("These lines of the log have just been removed") from None
    except (StorageAway, ForeignStorage, OSError) as error:
        told = "This log is in the storage and cannot be read now"
        raise LogsAway(f"{told}: {error}") from error
