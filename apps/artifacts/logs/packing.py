"""Frames: batches of lines of one job in one compressed piece. A frame begins with one line of JSON
that says what is in it, so that a volume can be read without the database."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from apps.jobs.log.archive import Batch, LogsAway

FRAME_BYTES = 256 * 1024  # of text; a batch may be larger
LEVEL = 6
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Frame:
    """What a row of the index says. `steps`, `attempts` and `lines` go together: how many lines
    there are of each; step 0 is none."""

    raw_bytes: int
    first_id: int
    last_id: int
    line_count: int
    first_at: datetime
    last_at: datetime
    steps: list[int]
    attempts: list[int]
    lines: list[int]


def pack(batches: Sequence[Batch]) -> tuple[bytes, Frame]:
    """These batches of one job, in the order of their ids, as bytes and as a row."""
    entries = [
        [one.id, one.step_id or 0, one.attempt_id, one.line_count, one.size, _micros(one.at)]
        for one in batches
    ]
    head = json.dumps({"job": str(batches[0].job_id), "batches": entries}, separators=(",", ":"))
    text = (head + "\n" + "".join(one.lines for one in batches)).encode()
    counts = Counter[tuple[int, int]]()
    for one in batches:
        counts[one.step_id or 0, one.attempt_id] += one.line_count
    frame = Frame(
        raw_bytes=len(text),
        first_id=batches[0].id,
        last_id=batches[-1].id,
        line_count=counts.total(),
        first_at=min(one.at for one in batches),
        last_at=max(one.at for one in batches),
        steps=[step for step, _ in counts],
        attempts=[attempt for _, attempt in counts],
        lines=list(counts.values()),
    )
    return zlib.compress(text, LEVEL), frame


def unpack(
    content: bytes, raw_bytes: int, choose: Callable[[int, int, int], bool]
) -> Iterator[Batch]:
    """The batches of a frame that `choose` (id, step, attempt) wants. Raises LogsAway if the bytes
    are not those that were stored."""
    try:
        head, text = _opened(content, raw_bytes)
        place = 0
        for id, step_id, attempt_id, line_count, size, micros in head["batches"]:
            lines, place = text[place : place + size], place + size
            if choose(id, step_id, attempt_id):
                at = _EPOCH + micros * _MICROSECOND
                yield Batch(
                    id, UUID(head["job"]), step_id or None, attempt_id, line_count, size, at,
                    str(lines, "utf-8"),
                )  # fmt: skip
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        raise LogsAway(f"A part of this log is damaged in the storage: {error}") from error


def _opened(content: bytes, raw_bytes: int) -> tuple[Any, memoryview]:
    text = zlib.decompressobj().decompress(content, raw_bytes + 1)
    if len(text) != raw_bytes:
        raise ValueError(f"{len(text):,} bytes instead of {raw_bytes:,}")
    end = text.index(b"\n")
    return json.loads(text[:end]), memoryview(text)[end + 1 :]


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND
