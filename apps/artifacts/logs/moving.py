"""Moves lines of jobs that have ended into the storage.

A volume is stored first. Then, for each job, one transaction writes the rows of its frames and
takes the lines away from the database, if all of them are still there. So lines are in one place at
any time: whoever is killed leaves at most a volume that no row names, which goes as any such blob.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import BinaryIO, cast
from uuid import UUID

from django.db import transaction
from django.db.models import F

from apps.artifacts import blobs
from apps.artifacts.blobs import Stored
from apps.artifacts.logs.packing import FRAME_BYTES, Frame, pack
from apps.artifacts.models import JobLog, LogFrame
from apps.jobs.log import moving as here
from apps.jobs.log.moving import Done
from engine.errors import StaleMove

log = logging.getLogger("stroem.logs")
VOLUME_BYTES = 64 << 20  # of text
MOST_BATCHES = 50_000  # of one volume, whose ids are kept in memory
JOBS_AT_ONCE = 500
BEGINNING = UUID(int=0)


@dataclass(slots=True)
class _Share:
    """What a volume holds of one job."""

    job: Done
    frames: list[tuple[int, int, Frame]] = field(default_factory=list)  # place, size
    batch_ids: list[int] = field(default_factory=list)


class Volume:
    """A blob in the making, on disk."""

    def __init__(self) -> None:
        self._file = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115  (`close` does)
        self._raw_bytes = self._batches = 0
        self._shares: dict[UUID, _Share] = {}

    @property
    def is_full(self) -> bool:
        return self._raw_bytes >= VOLUME_BYTES or self._batches >= MOST_BATCHES

    def fill(self, job: Done, after: int) -> int:
        """Add lines of the job until they are all in, or the volume is full; returns the last id,
        0 when they are all in."""
        while not self.is_full:
            batches = here.next_batches(job.id, after, FRAME_BYTES)
            if not batches:
                return 0
            content, frame = pack(batches)
            share = self._shares.setdefault(job.id, _Share(job))
            share.frames.append((self._file.tell(), len(content), frame))
            share.batch_ids += [batch.id for batch in batches]
            self._file.write(content)
            self._raw_bytes += frame.raw_bytes
            self._batches += len(batches)
            after = frame.last_id
        return after

    def close(self) -> int:
        """Store it, then move the lines of each job; returns how many lines have moved."""
        with self._file:
            if not self._shares:
                return 0
            self._file.seek(0)
            blob = blobs.put(self._file)
        return sum(_moved(share, blob) for share in self._shares.values())


def move(age_s: float, may_go_on: Callable[[], bool]) -> int:
    """Move the lines of all jobs that ended `age_s` ago; returns how many lines. `may_go_on` is
    asked before each volume. Raises StorageAway, ForeignStorage."""
    moved, after = 0, BEGINNING
    while True:
        jobs, following = here.done(after, age_s, JOBS_AT_ONCE)
        for volume in _volumes(jobs):
            moved += volume.close()
            if not may_go_on():
                return moved
        if following is None:
            return moved
        after = following


def _volumes(jobs: Sequence[Done]) -> Iterator[Volume]:
    """Filled volumes, each of one workspace: retention and removal take its jobs together."""
    ordered = sorted(jobs, key=lambda job: (job.workspace_id, job.ended_at))
    for _, group in groupby(ordered, key=lambda job: job.workspace_id):
        volume = Volume()
        for job in group:
            last = volume.fill(job, 0)
            while volume.is_full:
                yield volume
                volume = Volume()
                last = volume.fill(job, last) if last else 0
        yield volume


@transaction.atomic
def _move(share: _Share, blob: Stored) -> int:
    if not here.hold(share.job.id):
        raise StaleMove("the job has been removed")
    if here.forget(share.job.id, share.batch_ids) != len(share.batch_ids):
        raise StaleMove("somebody else has moved its lines")
    LogFrame.objects.bulk_create(
        (_row(share.job.id, blob, place, size, frame) for place, size, frame in share.frames),
        batch_size=500,
    )
    lines = sum(frame.line_count for _, _, frame in share.frames)
    JobLog.objects.bulk_create(
        [
            JobLog(
                job_id=share.job.id,
                workspace_id=share.job.workspace_id,
                ended_at=share.job.ended_at,
            )
        ],
        ignore_conflicts=True,
    )
    JobLog.objects.filter(job_id=share.job.id).update(
        ended_at=share.job.ended_at,
        line_count=F("line_count") + lines,
        raw_bytes=F("raw_bytes") + sum(frame.raw_bytes for _, _, frame in share.frames),
        size_bytes=F("size_bytes") + sum(size for _, size, _ in share.frames),
    )
    return lines


def _moved(share: _Share, blob: Stored) -> int:
    try:
        return _move(share, blob)
    except StaleMove as error:
        log.info("job %s: its lines were not moved: %s", share.job.id, error)
        return 0


def _row(job_id: UUID, blob: Stored, place: int, size: int, frame: Frame) -> LogFrame:
    return LogFrame(
        job_id=job_id,
        blob_id=blob.id,
        place=place,
        size_bytes=size,
        raw_bytes=frame.raw_bytes,
        first_id=frame.first_id,
        last_id=frame.last_id,
        line_count=frame.line_count,
        first_at=frame.first_at,
        last_at=frame.last_at,
        steps=frame.steps,
        attempts=frame.attempts,
        lines=frame.lines,
    )
