"""What clocks should have done, computed without the engine: croniter matches wall-clock times, and
the rules of Debian's cron for daylight saving time and of `catch_up` are written out again here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from croniter import croniter

MINUTE = timedelta(minutes=1)
GRID = timedelta(minutes=5)  # every expression of the proof falls on it


@dataclass(frozen=True)
class Alarm:
    """A clock: its name, expression, zone and policy."""

    name: str
    cron: str
    zone: str
    catch_up: str
    window: timedelta
    concurrency: str = "allow"


def slots(cron: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """All slots from `start` to `end`, in UTC."""
    minute, hour = cron.split()[:2]
    is_fixed = not minute.startswith("*") and not hour.startswith("*")
    found = _fixed(cron, zone, start, end) if is_fixed else _running(cron, zone, start, end)
    return sorted(slot for slot in found if start <= slot <= end)


def _running(cron: str, zone: str, start: datetime, end: datetime) -> set[datetime]:
    """In real time: every moment at which the wall shows a matching time."""
    found, place = set(), ZoneInfo(zone)
    moment = datetime.fromtimestamp(start.timestamp() // GRID.seconds * GRID.seconds, UTC)
    while moment <= end:
        if croniter.match(cron, moment.astimezone(place).replace(tzinfo=None)):
            found.add(moment)
        moment += GRID
    return found


def _fixed(cron: str, zone: str, start: datetime, end: datetime) -> set[datetime]:
    """A time of day: once a day, the first time if it comes twice, after the gap if not at all."""
    place, day = ZoneInfo(zone), timedelta(days=1)
    wall = (start - day).astimezone(place).replace(tzinfo=None)
    last = (end + day).astimezone(place).replace(tzinfo=None)
    found = set()
    for shown in croniter(cron, wall).all_next(datetime):
        if shown > last:
            return found
        moment = shown.replace(tzinfo=place, fold=0).astimezone(UTC)
        while moment.astimezone(place).replace(tzinfo=None) != shown:  # the clock skips it
            shown += MINUTE
            moment = shown.replace(tzinfo=place, fold=0).astimezone(UTC)
        found.add(moment)
    return found


def expected(
    alarm: Alarm, all_slots: Sequence[datetime], looks: Sequence[datetime]
) -> set[datetime]:
    """The slots that are to be fired, if somebody looks at the clock at these times."""
    fired: set[datetime] = set()
    passed = 0  # slots that were dealt with; a clock that is set back repeats none
    for look in looks:
        due = [slot for slot in all_slots[passed:] if slot <= look]
        passed += len(due)
        in_time = [slot for slot in due if look - slot <= MINUTE]
        in_window = [slot for slot in due if look - slot <= alarm.window]
        if alarm.catch_up == "all":
            fired.update(in_window)
        elif in_time or alarm.catch_up == "none":
            fired.update(in_time)
        else:
            fired.update(in_window[-1:])
    return fired
