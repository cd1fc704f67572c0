"""Reads logs piece by piece: whose lines, and how far a reader has got.

Ids are assigned before the commit, so a row may appear behind one that was already read. A cursor
therefore moves past a row only once no older row can still appear, and lists what it has seen
beyond that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import fetch
from apps.jobs.log.archive import Wanted, archive, merged

# no transaction holds a row longer: statements wait at most 10 s for a lock
SETTLED_S = 10
PIECE_BYTES = 4_000_000
_MOST_CHUNKS = 2_000
_MOST_SEEN = 500

_LIST = """
SELECT id, octet_length(lines), at < clock_timestamp() - %(settled)s * interval '1 second'
FROM jobs_logchunk
WHERE job_id = ANY(%(jobs)s) AND id > %(after)s AND id <> ALL(%(seen)s) AND CHOICE
ORDER BY id LIMIT %(limit)s
"""
_READ = (
    "SELECT id, job_id, lines FROM jobs_logchunk WHERE job_id = ANY(%(jobs)s) AND id = ANY(%(ids)s)"
)
_INSTANCES = "SELECT id FROM jobs_step WHERE loop_id = ANY(%s)"
_UNITS = "SELECT id FROM jobs_step WHERE owner_kind = 'action' AND owner_id = ANY(%s)"


class Whose(StrEnum):
    """Whose lines to read."""

    ALL = "all"
    SERVER = "server"
    STEP = "step"  # including loop instances
    ACTION = "action"
    ATTEMPT = "attempt"


_CONDITIONS = {
    Whose.ALL: "true",
    Whose.SERVER: "attempt_id = 0",
    Whose.STEP: "(step_id = ANY(%(ids)s)"
    " OR step_id IN (SELECT id FROM jobs_step WHERE loop_id = ANY(%(ids)s)))",
    Whose.ACTION: "step_id IN (SELECT id FROM jobs_step WHERE owner_kind = 'action'"
    " AND owner_id = ANY(%(ids)s))",
    Whose.ATTEMPT: "attempt_id = ANY(%(ids)s)",
}


@dataclass(frozen=True, slots=True)
class Chunk:
    """One stored batch of lines; `lines` is JSON lines."""

    id: int
    job_id: UUID
    step_id: int | None  # or of a unit
    loop_id: int | None
    owner_kind: str | None
    owner_id: int | None
    attempt_id: int
    lines: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Whose lines to read: a kind and ids."""

    whose: Whose = Whose.ALL
    ids: frozenset[int] = frozenset()

    @classmethod
    def of(cls, whose: Whose, *ids: int) -> Choice:
        return cls(whose, frozenset(ids))

    def wants(self, chunk: Chunk) -> bool:
        match self.whose:
            case Whose.ALL:
                return True
            case Whose.SERVER:
                return chunk.attempt_id == 0
            case Whose.STEP:
                return not self.ids.isdisjoint((chunk.step_id, chunk.loop_id))
            case Whose.ACTION:
                return chunk.owner_kind == self.whose and chunk.owner_id in self.ids
            case Whose.ATTEMPT:
                return chunk.attempt_id in self.ids

    def wanted(self) -> Wanted:
        """The same by the ids of steps and attempts."""
        ids = list(self.ids)
        match self.whose:
            case Whose.ALL:
                return Wanted()
            case Whose.SERVER:
                return Wanted(attempts=frozenset({0}))
            case Whose.ATTEMPT:
                return Wanted(attempts=self.ids)
            case Whose.STEP:
                return Wanted(steps=self.ids | {row[0] for row in fetch(_INSTANCES, (ids,))})
            case Whose.ACTION:
                return Wanted(steps=frozenset(row[0] for row in fetch(_UNITS, (ids,))))

    def within(self, statement: str) -> str:
        """The statement with this choice's condition in place of CHOICE."""
        return statement.replace("CHOICE", _CONDITIONS[self.whose])


EVERYTHING = Choice()


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader has got: everything up to `after`, and `seen` beyond it."""

    after: int = 0
    seen: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return "~".join([str(self.after), *(str(number) for number in sorted(self.seen))])

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Raises ValueError if the text is not a cursor."""
        parts = text.split("~")
        if len(parts) > _MOST_SEEN + 1 or not all(
            p.isascii() and p.isdigit() and len(p) < 19 for p in parts
        ):
            raise ValueError(text)
        return cls(int(parts[0]), frozenset(int(part) for part in parts[1:]))

    def take(self, rows: Iterable[tuple[int, bool]]) -> tuple[Cursor, list[int]]:
        """The cursor after these rows (id, is settled), and the ids not seen before."""
        after, seen = self.after, set(self.seen)
        fresh = []
        for row_id, is_settled in rows:
            if row_id not in seen:
                fresh.append(row_id)
                seen.add(row_id)
            if is_settled and row_id > after:
                after = row_id
        return Cursor(after, frozenset(number for number in seen if number > after)), fresh

    def bounded(self) -> Cursor:
        """The cursor cut to a length that can be sent; in a flood, its oldest part is not
        rechecked."""
        if len(self.seen) <= _MOST_SEEN:
            return self
        seen = sorted(self.seen)
        return Cursor(seen[-_MOST_SEEN - 1], frozenset(seen[-_MOST_SEEN:]))


@dataclass(frozen=True, slots=True)
class Piece:
    """Some chunks (job, JSON lines), the next cursor, and whether more was already there to
    read."""

    chunks: tuple[tuple[UUID, str], ...]
    next: Cursor
    has_more: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "logs": "".join(lines for _, lines in self.chunks),
            "next": str(self.next),
            "has_more": self.has_more,
        }


def read(job_ids: Collection[UUID], cursor: Cursor, choice: Choice = EVERYTHING) -> Piece:
    """What arrived after `cursor` in the logs of these jobs: at most 4 MB or one chunk. Raises
    LogsAway."""
    piece = None
    while piece is None:
        piece = _read(job_ids, cursor, choice)
    return piece


def _read(job_ids: Collection[UUID], cursor: Cursor, choice: Choice) -> Piece | None:
    """None if lines have moved while they were read. The archive is asked second: what moves
    between the two questions is in both answers."""
    params = {
        "settled": SETTLED_S,
        "jobs": list(job_ids),
        "after": cursor.after,
        "seen": list(cursor.seen),
        "ids": list(choice.ids),
        "limit": _MOST_CHUNKS + 1,
    }
    found = fetch(choice.within(_LIST), params)
    here = [(chunk_id, length, settled) for chunk_id, length, settled in found[:_MOST_CHUNKS]]
    part = archive().after(job_ids, cursor.after, cursor.seen, choice.wanted, PIECE_BYTES)
    listed = merged(here, part, is_cut=len(found) > _MOST_CHUNKS)
    chosen = fitting([(chunk_id, length) for chunk_id, length, _ in listed.rows], PIECE_BYTES)
    kept = [listed.kept[one] for one in chosen if one in listed.kept]
    texts = {batch.id: (batch.job_id, batch.lines) for batch in kept}
    rest = [one for one in chosen if one not in texts]
    if rest:
        rows = fetch(_READ, {"jobs": params["jobs"], "ids": rest})
        texts |= {chunk_id: (job_id, lines) for chunk_id, job_id, lines in rows}
    if len(texts) < len(chosen):
        return None
    following, _ = cursor.take((one, settled) for one, _, settled in listed.rows[: len(chosen)])
    has_more = listed.has_more or len(chosen) < len(listed.rows)
    return Piece(tuple(texts[one] for one in chosen), following.bounded(), has_more)


def fitting(rows: Iterable[tuple[int, int]], most_bytes: int) -> list[int]:
    """The first ids of (id, size) that together fit into `most_bytes`, at least one."""
    chosen: list[int] = []
    total = 0
    for chunk_id, length in rows:
        if chosen and total + length > most_bytes:
            break
        chosen.append(chunk_id)
        total += length
    return chosen
