"""Cron expressions: five fields, or six with leading seconds.

Names (`jan`, `MON`), lists, ranges, steps, `*`, `?`, `L` (last day of the month; `5L` last Friday),
`L-3`, `15W` (nearest weekday) and `5#2` (second Friday). Sunday is 0 or 7. cronsim computes when an
expression fires. This module adds error messages that name the wrong part, and syntax that cronsim
lacks: `?`, `fri-sun`, `friL`, `L-3`, `15W`, and nicknames such as `@daily`.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import cast

from cronsim import CronSim, CronSimError
from cronsim.cronsim import Field as CronSimField

from engine.errors import AuthorError
from engine.plain import shorten

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_EVERY = ("*", "?")
NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


class NeverFires(AuthorError):
    """No month of the expression has the given day."""


@dataclass(frozen=True, slots=True)
class _Field:
    """The range of one field. `offset` is the number of the first name."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    offset: int = 0

    def number(self, text: str) -> int:
        if text.lower() in self.names:
            return self.names.index(text.lower()) + self.offset
        if not _is_number(text):
            raise AuthorError(f"'{shorten(text, 20)}' is not a valid {self.name}")
        if not self.low <= int(text) <= self.high:
            raise AuthorError(f"{self.name} {int(text)} is not within {self.low}-{self.high}")
        return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4


_CLOCK = (_Field("second", 0, 59), _Field("minute", 0, 59), _Field("hour", 0, 23))
_DAY, _MONTH = _Field("day of the month", 1, 31), _Field("month", 1, 12, _MONTHS, 1)
_WEEKDAY, _WEEK = _Field("day of the week", 0, 7, _WEEKDAYS), _Field("week of the month", 1, 5)
_BEFORE_LAST = _Field("number of days before the last", 1, 30)


def times(text: str, after: datetime) -> Iterator[datetime]:
    """When the expression fires after a time, in that time's zone. If both day fields are
    restricted, either may match. Raises AuthorError that names the wrong part, or NeverFires."""
    parts = _parts(text)
    if len(parts) not in (5, 6):
        raise AuthorError(
            f"it has {len(parts)} fields; it needs five (minute hour day month weekday), or six"
            " with seconds"
        )
    *clock, day, month, week_day = parts
    days = _Days(day)
    fields = [_written(*pair) for pair in zip(_CLOCK[-len(clock) :], clock, strict=True)]
    fields += [days.needed, _written(_MONTH, month)]
    fields.append("*" if week_day in _EVERY else _written(_WEEKDAY, week_day))
    try:
        return _Times(" ".join(fields), after, days)
    except CronSimError:
        raise NeverFires(f"no month has the day that '{shorten(text)}' names") from None


def doubt(text: str) -> str | None:
    """Which step of a valid expression is never taken: `*/90` minutes is once an hour."""
    *clock, day, month, week_day = _parts(text)
    fields = (*_CLOCK[-len(clock) :], _DAY, _MONTH, _WEEKDAY)
    for field, texts in zip(fields, (*clock, day, month, week_day), strict=True):
        for part in texts.split(","):
            span, slash, step = part.partition("/")
            if not slash:
                continue
            first, dash, last = ("", "", "") if span in _EVERY else span.partition("-")
            low = field.number(first) if first else field.low
            if low + int(step) > (field.number(last) if dash else field.high):
                return f"'{shorten(part, 20)}' of the {field.name} is the same as '{low}'"
    return None


def explain(text: str) -> str:
    """What the expression means, in words; itself where they are not known. It must be valid."""
    try:
        return CronSim(" ".join(_parts(text)).replace("?", "*"), datetime(2000, 1, 1)).explain()  # noqa: DTZ001
    except CronSimError:
        return text


def _parts(text: str) -> list[str]:
    if len(text) > 500:
        raise AuthorError("it is longer than 500 characters")
    if text.strip().startswith("@"):
        nickname = text.strip().lower()
        if nickname not in NICKNAMES:
            known = ", ".join(NICKNAMES)
            raise AuthorError(f"'{shorten(nickname, 20)}' is not one of {known}")
        return NICKNAMES[nickname].split()
    return text.split()


class _Days:
    """A day field: the parts for cronsim, its `L-3` parts and its `15W` parts."""

    def __init__(self, text: str) -> None:
        self.before_last: set[int] = set()
        self.near: set[int] = set()
        known = []
        for part in () if text in _EVERY else text.split(","):
            if part.upper().startswith("L-"):
                self.before_last.add(_BEFORE_LAST.number(part[2:]))
            elif part.upper().endswith("W"):
                self.near.add(_DAY.number(part[:-1]))
            else:
                known.append("L" if part.upper() == "L" else _range(_DAY, part))
        self.known = ",".join(known)
        # the day that a month must have for each other part: cronsim refuses other months
        others = (*self.near, *(number + 1 for number in self.before_last))
        self.needed = ",".join((*known, *map(str, others))) or "*"


class _Times(CronSim):
    def __init__(self, expression: str, after: datetime, days: _Days) -> None:
        super().__init__(expression, after)
        self._special = days
        if days.before_last or days.near:
            known = CronSimField.DAY.parse(days.known) if days.known else set()
            self.days = cast(set[int], known)

    def advance_hour(self) -> bool:
        """As cronsim's, but from one full hour to the next: where the clock changes by half an
        hour, sixty minutes later is the middle of an hour."""
        if self.dt.hour in self.hours:
            return False
        self.dt = self.dt.replace(minute=0, second=0)
        while self.dt.hour not in self.hours:
            self.tick(seconds=(60 - self.dt.minute) * 60)
            if self.dt.hour == 0:
                break
        return True

    def match_dom(self, d: date) -> bool:
        last = calendar.monthrange(d.year, d.month)[1]
        return (
            super().match_dom(d)
            or last - d.day in self._special.before_last
            or any(d.day == _working_day(d, day, last) for day in self._special.near if day <= last)
        )


def _working_day(month: date, day: int, last: int) -> int:
    """The weekday nearest to `day` in the same month."""
    match calendar.weekday(month.year, month.month, day):
        case calendar.SATURDAY:
            return day - 1 if day > 1 else day + 2
        case calendar.SUNDAY:
            return day + 1 if day < last else day - 2
    return day


def _written(field: _Field, text: str) -> str:
    """A field in cronsim's syntax."""
    return ",".join(_item(field, part) for part in text.split(","))


def _item(field: _Field, part: str) -> str:
    day, hash_sign, which = part.partition("#")
    if field is not _WEEKDAY:
        return _range(field, part)
    if hash_sign:
        return f"{field.number(day)}#{_WEEK.number(which)}"
    if part in ("L", "l"):
        return "6"  # Saturday, the last day of the week
    return f"{field.number(part[:-1])}L" if part[-1:] in ("L", "l") else _range(field, part)


def _range(field: _Field, part: str) -> str:
    span, slash, step = part.partition("/")
    if slash and not (_is_number(step) and int(step)):
        raise AuthorError(f"'/{shorten(step, 20)}' is not a valid step for the {field.name}")
    if field in (_DAY, _WEEKDAY) and span in _EVERY:
        # not `*/2`: cronsim treats a day field that begins with a star as unrestricted
        return f"{field.low}-{field.high}{slash}{step}"
    if span == "*":
        return part
    first_text, dash, last_text = span.partition("-")
    first = field.number(first_text)
    last = field.number(last_text) if dash else first
    if dash and field is _WEEKDAY and last == 0:
        last = 7
    if first > last:
        raise AuthorError(f"the range {shorten(span, 20)} of the {field.name} runs backwards")
    if first == last:
        return str(first) if dash else f"{first}{slash}{step}"
    return f"{first}-{last}{slash}{step}"
