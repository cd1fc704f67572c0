"""The life-cycle tables of what is not a step or a job, and all as statements read them."""

from __future__ import annotations

from enum import StrEnum

import pytest

from engine.lifecycle import (
    ALLOCATION_TABLE,
    DELIVERY_TABLE,
    FIRING_TABLE,
    JOB_MOVES,
    JOB_TABLE,
    REQUEST_MOVES,
    REQUEST_TABLE,
    SESSION_TABLE,
    STEP_MOVES,
    STEP_TABLE,
    Move,
    sources,
    target,
)


@pytest.mark.parametrize(
    ("table", "ends"),
    [
        (REQUEST_TABLE, {"approved", "rejected", "timed_out", "cancelled"}),
        (SESSION_TABLE, {"closed", "lost"}),
        (ALLOCATION_TABLE, {"complete", "failed", "lost"}),
        (DELIVERY_TABLE, {"delivered", "failed"}),
        (FIRING_TABLE, {"started", "skipped", "missed", "refused", "superseded"}),
    ],
)
def test_requests_sessions_allocations_and_firings_end_once_and_each_event_lands_in_one_place(
    table: dict[tuple[StrEnum, StrEnum], StrEnum], ends: set[str]
) -> None:
    statuses = type(next(iter(table.values())))
    assert set(statuses) - {source for source, _ in table} == ends
    for event in type(next(iter(table))[1]):
        left = sources(table, event)
        assert left and {table[source, event] for source in left} == {target(table, event)}


@pytest.mark.parametrize(
    ("table", "moves"),
    [(STEP_TABLE, STEP_MOVES), (JOB_TABLE, JOB_MOVES), (REQUEST_TABLE, REQUEST_MOVES)],
)
def test_statements_read_exactly_the_table(
    table: dict[tuple[StrEnum, StrEnum], StrEnum], moves: dict[StrEnum, Move]
) -> None:
    read = {(left, event): move.target for event, move in moves.items() for left in move.sources}
    assert read == table
