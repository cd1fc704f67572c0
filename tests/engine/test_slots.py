"""The slots of a clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Literal
from zoneinfo import ZoneInfo

import pytest

from engine import slots
from engine.slots import Clock, Missed, after, before, due, following, share_of_jitter

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOURLY = Clock("0 * * * *")


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-{text}+00:00")


@pytest.mark.parametrize(
    ("zone", "start", "local"),
    [
        ("Europe/Oslo", "03-28T12:00:00", ["03-29T03:00:00+02:00", "03-30T02:30:00+02:00"]),
        ("Europe/Oslo", "10-24T12:00:00", ["10-25T02:30:00+02:00", "10-26T02:30:00+01:00"]),
        ("Australia/Sydney", "04-04T00:00:00", ["04-05T02:30:00+11:00", "04-06T02:30:00+10:00"]),
    ],
)
def test_a_fixed_time_runs_once_on_the_days_when_the_clock_changes(
    zone: str, start: str, local: list[str]
):
    found = following(Clock("30 2 * * *", zone), at(start), 2)
    assert [slot.astimezone(ZoneInfo(zone)).isoformat()[5:] for slot in found] == local


def test_every_quarter_of_an_hour_goes_on_in_real_time_through_both_hours():
    found = following(Clock("*/15 * * * *", "Europe/Oslo"), at("10-24T23:00:00"), 20)
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(minutes=15)}


@pytest.mark.parametrize("zone", ["Europe/Oslo", "America/New_York", "Australia/Lord_Howe", "UTC"])
@pytest.mark.parametrize(
    "cron",
    ["30 2 * * *", "*/20 * * * *", "0 */6 * * *", "15 1,2,3 * * *", "0 0 0 * * mon", "5 4 L * *"],
)
def test_looking_back_finds_what_looking_ahead_found(zone: str, cron: str):
    clock = Clock(cron, zone)
    start = at("01-01T00:00:00")
    slots = following(clock, start, 400)
    for earlier, later in pairwise(slots):
        assert before(clock, later) == later, (earlier, later)
        assert before(clock, later - timedelta(microseconds=1)) == earlier, (earlier, later)


def test_a_clock_that_never_fires_has_no_slot():
    never = Clock("0 0 31 2 *")
    assert after(never, NOON) is None and before(never, NOON) is None


def test_nicknames_are_expressions():
    assert after(Clock("@daily"), NOON) == at("03-11T00:00:00")
    assert after(Clock("@hourly"), NOON) == at("03-10T13:00:00")


def test_what_is_not_due_stays():
    assert due(HOURLY, NOON, NOON - timedelta(seconds=1)).slot is None


def test_a_slot_in_time_is_fired_whatever_the_policy():
    for policy in ("none", "last", "all"):
        found = due(Clock("0 * * * *", catch_up=policy), NOON, NOON + timedelta(seconds=30))
        assert (found.slot, found.missed) == (NOON, None)
        assert found.next == NOON + timedelta(hours=1)


@pytest.mark.parametrize("policy", ["none", "last", "all"])
@pytest.mark.parametrize("text", ["* * * * * *", "*/3 * * * * *", "* * * * *", "0 12 * * *"])
@pytest.mark.parametrize("window_s", [0, 2, 3600])
def test_the_short_way_for_a_slot_in_time_says_what_the_long_one_says(
    policy: Literal["none", "last", "all"], text: str, window_s: int
):
    clock = Clock(text, catch_up=policy, window=timedelta(seconds=window_s))
    for late in range(0, 8000, 500):
        moment = NOON + timedelta(milliseconds=late)
        assert due(clock, NOON, moment) == slots._looked_through(clock, NOON, moment), late


NIGHT = NOON + timedelta(hours=10, minutes=5)


def test_a_night_without_a_scheduler_costs_one_late_run():
    found = due(HOURLY, NOON, NIGHT)
    assert found.slot == NOON + timedelta(hours=10)
    assert found.missed == Missed(NOON, NOON + timedelta(hours=9), 10)
    assert found.next == NOON + timedelta(hours=11)


def test_without_catching_up_a_night_costs_nothing():
    found = due(Clock("0 * * * *", catch_up="none"), NOON, NIGHT)
    assert found.slot is None and found.next == NOON + timedelta(hours=11)
    assert found.missed == Missed(NOON, NOON + timedelta(hours=10), 11)


def test_catching_up_with_all_fires_them_one_after_the_other():
    clock = Clock("0 * * * *", catch_up="all")
    fired, pointer = [], NOON
    while (found := due(clock, pointer, NIGHT)).slot:
        assert found.missed is None and found.next
        fired.append(found.slot)
        pointer = found.next
    assert fired == [NOON + timedelta(hours=hour) for hour in range(11)]


def test_what_is_older_than_the_window_is_missed():
    old = NOON - timedelta(days=3)
    last = due(Clock("0 0 * * mon"), at("03-09T00:00:00"), at("03-11T00:00:00"))
    assert last.slot is None and last.missed and last.missed.count == 1
    every = due(Clock("0 * * * *", catch_up="all"), old, NOON)
    assert every.slot == NOON - timedelta(days=1)
    assert every.missed == Missed(old, NOON - timedelta(hours=25), 48)


def test_a_clock_of_seconds_does_not_storm_after_an_outage():
    clock = Clock("* * * * * *")
    found, fired = due(clock, NOON, NIGHT), []
    while found.slot:
        fired.append(found.slot)
        assert found.next
        found = due(clock, found.next, NIGHT)
    assert len(fired) == 6 and fired[-1] == NIGHT


def test_jitter_shifts_a_trigger_by_the_same_time_always():
    share = share_of_jitter("shop/nightly", 600)
    assert share == share_of_jitter("shop/nightly", 600) and share < timedelta(seconds=600)
    assert len({share_of_jitter(f"shop/{name}", 600) for name in range(100)}) > 80
    clock = Clock("0 * * * *", offset=timedelta(minutes=5))
    assert due(clock, NOON, NOON + timedelta(minutes=4)).slot is None
    assert due(clock, NOON, NOON + timedelta(minutes=5)).slot == NOON
