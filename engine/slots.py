"""The slots of a clock: which times it fires at, which of those are due, and which were missed.

Daylight saving time is handled as Debian's cron does: a fixed time that the clock skips runs right
after the gap, one that comes twice runs once, and `*/15` runs in real time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal
from zoneinfo import ZoneInfo

from engine.spec import cron

ON_TIME = timedelta(seconds=60)  # a slot that is found this late still counts as on time
SHORTEST_ON_TIME = timedelta(seconds=5)  # for clocks that fire more often than once a minute
MOST_COUNTED = 10_000  # of missed slots; a clock of seconds misses more in a night
_SPANS = tuple(timedelta(minutes=2, hours=h) for h in (0, 2, 48, 1000, 10_000, 72_000))


@dataclass(frozen=True, slots=True)
class Clock:
    """`offset` is the share of the jitter that falls to this trigger."""

    cron: str
    timezone: str = "UTC"
    catch_up: Literal["none", "last", "all"] = "last"
    window: timedelta = timedelta(days=1)
    offset: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class Missed:
    """Slots that will not be fired. `count` is at most MOST_COUNTED."""

    first: datetime
    last: datetime
    count: int


@dataclass(frozen=True, slots=True)
class Due:
    """What to do now: record `missed`, then fire `slot`; `next` is the slot to look at after
    that."""

    next: datetime | None
    slot: datetime | None = None
    missed: Missed | None = None


def zone_of(clock: Clock) -> ZoneInfo:
    return ZoneInfo(clock.timezone)


def share_of_jitter(name: str, jitter_s: float) -> timedelta:
    """When within its jitter a trigger fires. Always the same, so that its runs stay evenly
    spaced and the next ones can be shown."""
    if not jitter_s:
        return timedelta()
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return timedelta(seconds=number % max(1, round(jitter_s)))


def after(clock: Clock, moment: datetime) -> datetime | None:
    """The first slot after `moment`, in UTC; None if there is none any more."""
    return next(iter(following(clock, moment, 1)), None)


def following(clock: Clock, moment: datetime, count: int) -> list[datetime]:
    """The next slots after `moment`, in UTC."""
    return list(islice(_ahead(clock, moment), count))


def before(clock: Clock, moment: datetime) -> datetime | None:
    """The last slot at or before `moment`, in UTC; None if there was none in eight years. It looks
    ahead from earlier and earlier, so that it finds what `after` finds."""
    for span in _SPANS:
        last = None
        for slot in _ahead(clock, moment - span):
            if slot > moment:
                break
            last = slot
        if last is not None:
            return last
    return None


def _ahead(clock: Clock, moment: datetime) -> Iterator[datetime]:
    """Strictly ascending: after the gap of a time change several slots may fall together."""
    last = moment.astimezone(UTC)
    try:
        for found in cron.times(clock.cron, last.astimezone(zone_of(clock))):
            slot = found.astimezone(UTC)
            if slot > last:
                yield slot
                last = slot
    except (cron.NeverFires, OverflowError):
        return


def due(clock: Clock, pointer: datetime, now: datetime) -> Due:
    """What to do with the slots from `pointer` (a slot) to `now`, by the clock's policy."""
    moment = now - clock.offset
    if pointer > moment:
        return Due(pointer)
    if moment - pointer <= min(SHORTEST_ON_TIME, clock.window):
        upcoming = after(clock, pointer)
        if upcoming is None or upcoming > moment:  # the ordinary case: nothing was missed
            return Due(upcoming, pointer)
    return _looked_through(clock, pointer, moment)


def _looked_through(clock: Clock, pointer: datetime, moment: datetime) -> Due:
    """`due`, for any number of slots from `pointer` to `moment`."""
    first = _first_wanted(clock, pointer, moment)
    if first is None:
        all_of_them = _missed(clock, pointer, moment + timedelta(microseconds=1))
        return Due(after(clock, moment), missed=all_of_them)
    missed = _missed(clock, pointer, first) if first > pointer else None
    return Due(after(clock, first), first, missed)


def _first_wanted(clock: Clock, pointer: datetime, moment: datetime) -> datetime | None:
    """The earliest slot that is to be fired; those before it are missed."""
    if clock.catch_up == "all":
        return _from(clock, max(pointer, moment - clock.window), moment)
    newest = before(clock, moment) or pointer
    newest = max(newest, pointer)
    earlier = before(clock, newest - timedelta(microseconds=1))
    interval = newest - earlier if earlier else ON_TIME
    on_time = min(ON_TIME, max(SHORTEST_ON_TIME, interval))
    found = _from(clock, max(pointer, moment - on_time), moment)
    if found is not None or clock.catch_up == "none":
        return found
    return newest if moment - newest <= clock.window else None


def _from(clock: Clock, start: datetime, end: datetime) -> datetime | None:
    """The first slot from `start` to `end`, both included."""
    found = after(clock, start - timedelta(microseconds=1))
    return found if found is not None and found <= end else None


def _missed(clock: Clock, first: datetime, end: datetime) -> Missed:
    """The slots from `first` until before `end`."""
    count = 1
    for slot in islice(_ahead(clock, first), MOST_COUNTED - 1):
        if slot >= end:
            break
        count += 1
    return Missed(first, before(clock, end - timedelta(microseconds=1)) or first, count)
