"""Reads job logs in pieces. A reader that follows misses nothing, late commits included.

Chunk ids are assigned before the commit, so a chunk may appear behind one that was read already. A
cursor therefore passes a chunk only once nothing older can still appear, and lists the newer ones
that it has seen.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection
from rest_framework.exceptions import ParseError

# no transaction holds a chunk back longer: statements wait at most 10 s for a lock
SETTLED_S = 10
PIECE_BYTES = 4_000_000
_MOST_CHUNKS = 2_000
_MOST_SEEN = 500

_LIST = """
SELECT id, octet_length(lines), at < clock_timestamp() - %(settled)s * interval '1 second'
    FROM jobs_logchunk
WHERE job_id = ANY(%(jobs)s) AND id > %(after)s AND id <> ALL(%(seen)s)
    AND (%(steps)s::bigint[] IS NULL OR step_id = ANY(%(steps)s))
        AND (NOT %(server)s OR attempt_id = 0)
    AND (%(attempts)s::bigint[] IS NULL OR attempt_id = ANY(%(attempts)s))
ORDER BY id LIMIT %(limit)s
"""
_READ = (
    "SELECT job_id, lines FROM jobs_logchunk WHERE job_id = ANY(%(jobs)s) AND id = ANY(%(ids)s)"
    " ORDER BY id"
)


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader is: everything up to `after`, and `seen` beyond it."""

    after: int = 0
    seen: frozenset[int] = frozenset()

    def __str__(self) -> str:
        return "~".join([str(self.after), *(str(number) for number in sorted(self.seen))])

    @classmethod
    def parse(cls, text: str) -> Cursor:
        parts = text.split("~")
        if len(parts) > _MOST_SEEN + 1 or not all(
            p.isascii() and p.isdigit() and len(p) < 19 for p in parts
        ):
            raise ParseError("after must be the `next` of an earlier answer")
        return cls(int(parts[0]), frozenset(int(part) for part in parts[1:]))


@dataclass(frozen=True, slots=True)
class Piece:
    """Some chunks (job, JSON lines), where to continue, and whether more was ready."""

    chunks: tuple[tuple[UUID, str], ...]
    next: Cursor
    has_more: bool

    def as_json(self) -> dict[str, Any]:
        return {
            "logs": "".join(lines for _, lines in self.chunks),
            "next": str(self.next),
            "has_more": self.has_more,
        }


def read(
    job_ids: Collection[UUID],
    cursor: Cursor,
    *,
    step_ids: Collection[int] | None = None,
    is_server: bool = False,
    attempt_ids: Collection[int] | None = None,
) -> Piece:
    """What arrived after `cursor` in the logs of these jobs: at most 4 MB, or one chunk. Two
    queries.

    `step_ids`, `attempt_ids` and `is_server` restrict this to steps, to attempts, and to the
    server's own messages.
    """
    listed = _list(job_ids, cursor, step_ids, is_server, attempt_ids)
    chosen: list[int] = []
    size = 0
    for chunk_id, length, _ in listed:
        if chosen and size + length > PIECE_BYTES:
            break
        chosen.append(chunk_id)
        size += length
    has_more = len(chosen) < len(listed) or len(listed) == _MOST_CHUNKS
    following = _advance(
        cursor, [(chunk_id, settled) for chunk_id, _, settled in listed[: len(chosen)]]
    )
    return Piece(_contents(job_ids, chosen), following, has_more)


def _list(
    job_ids: Collection[UUID],
    cursor: Cursor,
    step_ids: Collection[int] | None,
    is_server: bool,
    attempt_ids: Collection[int] | None,
) -> list[tuple[int, int, bool]]:
    params: dict[str, Any] = {
        "settled": SETTLED_S,
        "jobs": list(job_ids),
        "after": cursor.after,
        "seen": list(cursor.seen),
        "steps": None if step_ids is None else list(step_ids),
        "server": is_server,
        "attempts": None if attempt_ids is None else list(attempt_ids),
        "limit": _MOST_CHUNKS,
    }
    with connection.cursor() as handle:
        handle.execute(_LIST, params)
        return list(handle.fetchall())


def _contents(job_ids: Collection[UUID], chunk_ids: list[int]) -> tuple[tuple[UUID, str], ...]:
    if not chunk_ids:
        return ()
    with connection.cursor() as handle:
        handle.execute(_READ, {"jobs": list(job_ids), "ids": chunk_ids})
        return tuple((_uuid(job_id), lines) for job_id, lines in handle.fetchall())


def _uuid(value: Any) -> UUID:
    return value if isinstance(value, UUID) else UUID(str(value))


def _advance(cursor: Cursor, read: list[tuple[int, bool]]) -> Cursor:
    settled = [chunk_id for chunk_id, is_settled in read if is_settled]
    after = max(settled, default=cursor.after)
    seen = sorted(
        number for number in {*cursor.seen, *(chunk_id for chunk_id, _ in read)} if number > after
    )
    if len(seen) > _MOST_SEEN:  # a flood: no longer look for late commits behind its oldest
        after = seen[-_MOST_SEEN - 1]
        seen = seen[-_MOST_SEEN:]
    return Cursor(after, frozenset(seen))
