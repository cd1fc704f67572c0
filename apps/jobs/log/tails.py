"""What happened in watched jobs since the last look: changed steps and new batches of log lines."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from apps.jobs.database.sql import fetch, fetch_one
from apps.jobs.log.archive import Batch, archive, merged
from apps.jobs.log.cursors import SETTLED_S, Choice, Chunk, Cursor, fitting

MOST_AT_ONCE = 400
MOST_STEPS = 200
PIECE_BYTES = 400_000

EVENTS = """
SELECT w.job, e.id, e.step_id, e.at < clock_timestamp() - %(settled)s * interval '1 second'
FROM unnest(%(jobs)s::uuid[], %(after)s::bigint[]) w(job, after) CROSS JOIN LATERAL (
    SELECT id, step_id, at FROM jobs_stepevent WHERE job_id = w.job AND id > w.after ORDER BY id
        LIMIT 20000
) e
"""
CHUNKS = """
SELECT w.job, c.id, c.at < clock_timestamp() - %(settled)s * interval '1 second',
    octet_length(c.lines)
FROM unnest(%(jobs)s::uuid[], %(after)s::bigint[]) w(job, after) CROSS JOIN LATERAL (
    SELECT id, at, lines FROM jobs_logchunk WHERE job_id = w.job AND id > w.after ORDER BY id
        LIMIT 20000
) c
"""
CONTENTS = """
SELECT c.id, c.job_id, c.step_id, s.loop_id, s.owner_kind, s.owner_id, c.attempt_id, c.lines
FROM jobs_logchunk c LEFT JOIN jobs_step s ON s.id = c.step_id
WHERE c.job_id = ANY(%(jobs)s) AND c.id = ANY(%(ids)s) ORDER BY c.id
"""
FLOOR = """
SELECT
    coalesce((SELECT max(id) FROM jobs_stepevent WHERE job_id = %(job)s
        AND at < clock_timestamp() - %(settled)s * interval '1 second'), 0),
    coalesce((SELECT max(id) FROM jobs_logchunk WHERE job_id = %(job)s
        AND at < clock_timestamp() - %(settled)s * interval '1 second'), 0)
"""
RECENT = "SELECT id FROM jobs_logchunk WHERE job_id = %(job)s AND id > %(after)s"
STEPS = """
SELECT id, job_id, name, base, kind, status, started_at, completed_at, suspended_at, attempts,
    loop_index, child_job_id,
    left(error, 300), loop_id
FROM jobs_step WHERE job_id = ANY(%(jobs)s) AND id = ANY(%(ids)s) AND owner_kind = 'step'
"""
START_OF_TAIL = """
SELECT coalesce(max(id) FILTER (WHERE behind >= %(lines)s), 0), coalesce(sum(line_count), 0)
FROM (
    SELECT id, line_count, sum(line_count) OVER (ORDER BY id DESC) - line_count AS behind
    FROM jobs_logchunk WHERE job_id = %(job)s AND CHOICE
) t
"""
LIST = """
SELECT id, octet_length(lines), true FROM jobs_logchunk
WHERE job_id = %(job)s AND CHOICE AND id > %(after)s ORDER BY id LIMIT %(limit)s
"""
AT = "SELECT at FROM jobs_logchunk WHERE job_id = %(job)s AND id = %(until)s"
LATE = """
SELECT id FROM jobs_logchunk
WHERE job_id = %(job)s AND CHOICE AND id < %(until)s AND at > %(since)s ORDER BY id
"""
STANDINGS = "SELECT id, loop_id, owner_kind, owner_id FROM jobs_step WHERE id = ANY(%s)"


@dataclass(slots=True)
class Watch:
    """How far one watched job has been read."""

    events: Cursor
    chunks: Cursor


@dataclass(slots=True)
class News:
    """What happened in one job."""

    step_ids: list[int] = field(default_factory=list)
    is_moved: bool = False
    chunks: list[Chunk] = field(default_factory=list)


def watch(job_id: UUID) -> Watch:
    """Start watching a job from a little before now, so that nothing falls between a backfill and
    the first look."""
    row = fetch_one(FLOOR, {"job": job_id, "settled": SETTLED_S})
    assert row is not None
    return Watch(Cursor(row[0]), Cursor(row[1]))


def recent(job_id: UUID) -> frozenset[int]:
    """The chunks of a job that one who begins to watch now is given although they are stored."""
    after = {"job": job_id, "after": watch(job_id).chunks.after}
    return frozenset(row[0] for row in fetch(RECENT, after))


def look(watches: Mapping[UUID, Watch], with_logs: Collection[UUID]) -> dict[UUID, News]:
    """What happened since the last look: at most three queries, however many jobs."""
    found: dict[UUID, News] = {}
    events: dict[UUID, list[tuple[int, bool]]] = {}
    steps: dict[int, int | None] = {}
    for job_id, event_id, step_id, is_settled in fetch(EVENTS, _places(watches, watches, "events")):
        events.setdefault(job_id, []).append((event_id, is_settled))
        steps[event_id] = step_id
    for job_id, rows in events.items():
        watches[job_id].events, fresh = watches[job_id].events.take(rows)
        if fresh:
            news = found.setdefault(job_id, News(is_moved=True))
            news.step_ids = list(
                {step_id for event_id in fresh if (step_id := steps[event_id]) is not None}
            )
    for chunk in _new_chunks(watches, with_logs):
        found.setdefault(chunk.job_id, News()).chunks.append(chunk)
    return found


def _new_chunks(watches: Mapping[UUID, Watch], with_logs: Collection[UUID]) -> list[Chunk]:
    if not with_logs:
        return []
    listed: dict[UUID, list[tuple[int, bool]]] = {}
    size = 0
    for job_id, chunk_id, is_settled, length in fetch(
        CHUNKS, _places(watches, with_logs, "chunks")
    ):
        known = chunk_id in watches[job_id].chunks.seen
        size += 0 if known else length
        if size > PIECE_BYTES and not known and size > length:
            break  # the next look reads the rest
        listed.setdefault(job_id, []).append((chunk_id, is_settled))
    fresh: list[int] = []
    for job_id, rows in listed.items():
        watches[job_id].chunks, found = watches[job_id].chunks.take(rows)
        fresh += found
    return read(list(listed), fresh)


def _places(watches: Mapping[UUID, Watch], jobs: Collection[UUID], which: str) -> dict[str, Any]:
    after = [getattr(watches[job_id], which).after for job_id in jobs]
    return {"jobs": list(jobs), "after": after, "settled": SETTLED_S}


def read(job_ids: Sequence[UUID], chunk_ids: Sequence[int]) -> list[Chunk]:
    if not chunk_ids:
        return []
    return [Chunk(*row) for row in fetch(CONTENTS, {"jobs": list(job_ids), "ids": list(chunk_ids)})]


def start_of_tail(job_id: UUID, choice: Choice, lines: int) -> int:
    """The chunk id after which about the last `lines` lines begin; 0 for the whole log. Raises
    LogsAway."""
    params = {"job": job_id, "ids": list(choice.ids), "lines": lines}
    row = fetch_one(choice.within(START_OF_TAIL), params)
    start, count = row or (0, 0)
    if start:
        return int(start)
    return archive().start_of_tail(job_id, choice.wanted, lines - int(count))


def piece(job_id: UUID, choice: Choice, after: int, size: int = PIECE_BYTES) -> list[Chunk]:
    """The next stored chunks after `after`, about `size` bytes. Raises LogsAway."""
    found = None
    while found is None:
        found = _piece(job_id, choice, after, size)
    return found


def _piece(job_id: UUID, choice: Choice, after: int, size: int) -> list[Chunk] | None:
    """None if lines have moved into the archive while they were read."""
    params = {"job": job_id, "ids": list(choice.ids), "after": after, "limit": MOST_AT_ONCE}
    here = [(chunk_id, length, True) for chunk_id, length, _ in fetch(choice.within(LIST), params)]
    part = archive().after([job_id], after, (), choice.wanted, size)
    listed = merged(here, part, is_cut=len(here) == MOST_AT_ONCE)
    chosen = fitting([(chunk_id, length) for chunk_id, length, _ in listed.rows], size)
    rest = [one for one in chosen if one not in listed.kept]
    chunks = read([job_id], rest)
    if len(chunks) < len(rest):
        return None
    chunks += _chunks([listed.kept[one] for one in chosen if one in listed.kept])
    return sorted(chunks, key=lambda chunk: chunk.id)


def late(job_id: UUID, choice: Choice, until: int) -> list[Chunk]:
    """Chunks before `until` that may have been committed after a reader passed `until`. Raises
    LogsAway."""
    params = {"job": job_id, "ids": list(choice.ids), "until": until}
    row = fetch_one(AT, params)
    arrived = row[0] if row else archive().time_of(job_id, until)
    if arrived is None:
        return []
    since = arrived - timedelta(seconds=SETTLED_S)
    rows = fetch(choice.within(LATE), {**params, "since": since})
    kept = _chunks(archive().late(job_id, choice.wanted, until, since))
    known = {chunk.id for chunk in kept}
    here = read([job_id], [one for (one,) in rows if one not in known])
    return sorted(here + kept, key=lambda chunk: chunk.id)


def _chunks(batches: Sequence[Batch]) -> list[Chunk]:
    """Batches of the archive, with what their steps are."""
    steps = list({batch.step_id for batch in batches if batch.step_id is not None})
    known = {row[0]: row[1:] for row in fetch(STANDINGS, (steps,))} if steps else {}
    found = []
    for one in batches:
        loop, kind, owner = known.get(one.step_id, (None, None, None))
        found.append(
            Chunk(one.id, one.job_id, one.step_id, loop, kind, owner, one.attempt_id, one.lines)
        )
    return found


def step_rows(job_ids: Sequence[UUID], step_ids: Sequence[int]) -> dict[UUID, list[dict[str, Any]]]:
    """Steps in brief, by job."""
    found: dict[UUID, list[dict[str, Any]]] = {}
    for row in fetch(STEPS, {"jobs": list(job_ids), "ids": list(step_ids)}):
        found.setdefault(row[1], []).append(brief(row))
    return found


def brief(row: Sequence[Any]) -> dict[str, Any]:
    """A row of STEPS as JSON."""
    return {
        "id": row[0],
        "name": row[2],
        "base": row[3],
        "kind": row[4],
        "status": row[5],
        "started": row[6].isoformat() if row[6] else None,
        "ended": row[7].isoformat() if row[7] else None,
        "suspended": row[8].isoformat() if row[8] else None,
        "attempts": row[9],
        "index": row[10],
        "child": str(row[11]) if row[11] else None,
        "error": row[12],
        "loop": row[13],
    }
