"""Plain text in the log of one job, oldest lines first, wherever they are kept. Each call reads so
much at most and says where it stopped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from apps.jobs.log import tails
from apps.jobs.log.cursors import Choice, Chunk

SCAN_BYTES = 32_000_000
PIECE_BYTES = 2_000_000
MOST_HITS = 1_000
LONGEST_TERM = 200
LONGEST_LINE = 2_000
_PLACE = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,9}))?", re.ASCII)


class Stop(StrEnum):
    """Why a search went no further."""

    END = "end"  # of the log so far
    LIMIT = "limit"  # as many hits as were asked for
    SCANNED = "scanned"  # as many lines as one call reads


@dataclass(frozen=True, slots=True)
class Place:
    """After this line of this batch; line 0: before all of the lines of the next."""

    batch: int = 0
    line: int = 0

    def __str__(self) -> str:
        return f"{self.batch}.{self.line}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Raises ValueError if the text is no place."""
        found = _PLACE.fullmatch(text)
        if found is None:
            raise ValueError(text)
        return cls(int(found[1]), int(found[2] or 0))


@dataclass(frozen=True, slots=True)
class Hit:
    """A line with the text. `after`: read the log after this to begin with its batch."""

    ts: str
    stream: str
    step: str
    line: str
    is_cut: bool
    after: str


@dataclass(frozen=True, slots=True)
class Found:
    hits: list[Hit]
    next: Place
    stopped: Stop


def find(job_id: UUID, choice: Choice, text: str, after: Place, limit: int) -> Found:
    """The next lines that hold the text, in either case. Raises LogsAway."""
    needle = _fold(text)
    hits: list[Hit] = []
    at, scanned = after, 0
    while scanned < SCAN_BYTES:
        chunks = tails.piece(job_id, choice, at.batch - 1 if at.line else at.batch, PIECE_BYTES)
        if not chunks:
            return Found(hits, at, Stop.END)
        for chunk in chunks:
            skip = at.line if chunk.id == at.batch else 0
            for number, hit in _hits(chunk, needle, skip):
                hits.append(hit)
                if len(hits) >= limit:
                    return Found(hits, Place(chunk.id, number), Stop.LIMIT)
            scanned += len(chunk.lines)
            at = Place(chunk.id)
    return Found(hits, at, Stop.SCANNED)


def _hits(chunk: Chunk, needle: str, skip: int) -> Iterator[tuple[int, Hit]]:
    """The lines with the text and their numbers, after `skip` of them."""
    written = _fold(json.dumps(needle, ensure_ascii=False)[1:-1])
    if written not in _fold(chunk.lines):
        return
    for number, stored in enumerate(filter(None, chunk.lines.split("\n")), 1):
        if number > skip and written in _fold(stored):
            record: dict[str, Any] = json.loads(stored)
            place = _fold(record["line"]).find(needle)
            if place >= 0:
                line, is_cut = _around(record["line"], place)
                ts, stream, step = record["ts"], record["stream"], record["step"]
                yield number, Hit(ts, stream, step, line, is_cut, str(chunk.id - 1))


def _around(line: str, place: int) -> tuple[str, bool]:
    """The part of a long line that holds the text."""
    if len(line) <= LONGEST_LINE:
        return line, False
    start = max(0, min(place - LONGEST_LINE // 4, len(line) - LONGEST_LINE))
    return line[start : start + LONGEST_LINE], True


def _fold(text: str) -> str:
    """In lower case; the one letter whose lower case depends on its place, in one form."""
    return text.lower().replace("ς", "σ")
