"""How often the hub looks for those who watch."""

from __future__ import annotations

from apps.jobs.pages.hub import LONGEST_PAUSE_S, PAUSE_S, SHARE, STILL_AFTER_S, pause_after


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
