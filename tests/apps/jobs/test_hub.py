"""How often the hub looks for those who watch, and what it tells to whom."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

from apps.jobs.models import Job
from apps.jobs.pages import live
from apps.jobs.pages.hub import (
    LONGEST_PAUSE_S,
    PAUSE_S,
    SHARE,
    STILL_AFTER_S,
    Item,
    Reader,
    pause_after,
    progress_item,
)


def test_looks_are_frequent_while_something_moves_and_cheap_to_look_for() -> None:
    assert pause_after(0.001, still_s=0) == PAUSE_S


def test_slow_looks_leave_the_database_four_fifths_of_the_time() -> None:
    assert pause_after(0.05, still_s=0) == SHARE * 0.05


def test_no_line_waits_long_for_a_look() -> None:
    assert (
        pause_after(9, still_s=0)
        == pause_after(0.001, still_s=STILL_AFTER_S + 1)
        == LONGEST_PAUSE_S
        <= 0.25
    )


def test_only_readers_of_a_step_hear_of_its_progress() -> None:
    one, other, none = (Reader(uuid4(), None, step) for step in (7, 8, 0))

    for reader in (one, other, none):
        reader.give(progress_item(7, "a mark"))

    assert [reader.waiting.qsize() for reader in (one, other, none)] == [1, 0, 0]


def test_progress_after_the_end_of_a_job_keeps_no_stream_open() -> None:
    job = Job(id=uuid4(), completed_at=datetime(2026, 1, 1, tzinfo=UTC))

    async def told() -> list[str]:
        reader = Reader(job.pk, None, 7)
        reader.give(progress_item(7, "a mark"))
        ticket = live.Ticket("", job, None, 7)
        over = Item("", None, is_over=True)
        return [text async for text in live._live(ticket, reader, lambda chunk: True, over)]

    first, last = asyncio.run(told())
    assert "a mark" in first and last == live.OVER
