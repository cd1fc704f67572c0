"""Cron expressions: five fields, or six with leading seconds, to sets of numbers.

Names (`jan`, `MON`), lists, ranges, steps, `*`, `?`, `L` (last day of the month; `5L` last Friday),
`L-3`, `15W` (nearest weekday) and `5#2` (second Friday). Sunday is 0 or 7.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import AuthorError
from engine.spec.problems import shorten

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_MONTH = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


@dataclass(frozen=True, slots=True)
class Cron:
    """When a trigger fires. As cron has it, a day fits when either of two restricted day fields
    fits."""

    seconds: frozenset[int]
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # 0 is Sunday
    any_day: bool  # the day of the month is `*` or `?`
    any_weekday: bool
    days_before_last: frozenset[int] = frozenset()  # 0 for `L`, 3 for `L-3`
    near_days: frozenset[int] = frozenset()  # 15 for `15W`
    last_weekdays: frozenset[int] = frozenset()  # 5 for `5L`
    nth_weekdays: frozenset[tuple[int, int]] = frozenset()  # (5, 2) for `5#2`

    @property
    def can_fire(self) -> bool:
        """False for days that no month of the expression has, such as 31 February."""
        if not self.any_weekday or self.days_before_last or self.any_day:
            return True
        days = self.days | self.near_days
        return any(min(days) <= _LONGEST_MONTH.get(month, 31) for month in self.months)


@dataclass(frozen=True, slots=True)
class _Field:
    """What one field may hold. `offset` is the number of the first name."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    offset: int = 0

    def number(self, text: str) -> int:
        if text.lower() in self.names:
            return self.names.index(text.lower()) + self.offset
        if not text.isascii() or not text.isdigit() or len(text) > 4:
            raise AuthorError(f"'{shorten(text, 20)}' is no {self.name}")
        if not self.low <= int(text) <= self.high:
            raise AuthorError(f"{self.name} {int(text)} is not within {self.low}-{self.high}")
        return int(text)


_SECOND, _MINUTE, _HOUR = _Field("second", 0, 59), _Field("minute", 0, 59), _Field("hour", 0, 23)
_DAY, _MONTH = _Field("day of the month", 1, 31), _Field("month", 1, 12, _MONTHS, 1)
_WEEKDAY = _Field("day of the week", 0, 7, _DAYS)


def parse(text: str) -> Cron:
    """The expression's meaning; raises AuthorError that says which part is wrong."""
    if len(text) > 500:
        raise AuthorError("it is longer than 500 characters")
    parts = text.split()
    if len(parts) not in (5, 6):
        raise AuthorError(
            f"it has {len(parts)} fields; five are needed (minute hour day month weekday), or six"
            " with seconds"
        )
    second, minute, hour, day, month, weekday = parts if len(parts) == 6 else ("0", *parts)
    plain_days, days_before_last, near_days = _split_days(day)
    plain_weekdays, last_weekdays, nth_weekdays = _split_weekdays(weekday)
    return Cron(
        seconds=_numbers(_SECOND, second),
        minutes=_numbers(_MINUTE, minute),
        hours=_numbers(_HOUR, hour),
        days=_numbers(_DAY, plain_days) if plain_days else frozenset(),
        months=_numbers(_MONTH, month),
        weekdays=_fold(_numbers(_WEEKDAY, plain_weekdays)) if plain_weekdays else frozenset(),
        any_day=day in ("*", "?"),
        any_weekday=weekday in ("*", "?"),
        days_before_last=days_before_last,
        near_days=near_days,
        last_weekdays=last_weekdays,
        nth_weekdays=nth_weekdays,
    )


def _numbers(field: _Field, text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        found |= _range(field, part)
    return frozenset(found)


def _range(field: _Field, part: str) -> set[int]:
    span, slash, step_text = part.partition("/")
    step = 1
    if slash:
        if (
            not (step_text.isascii() and step_text.isdigit())
            or len(step_text) > 4
            or int(step_text) == 0
        ):
            raise AuthorError(f"'/{shorten(step_text, 20)}' is no step in the {field.name}")
        step = int(step_text)
    if span == "*" or (span == "?" and field in (_DAY, _WEEKDAY)):
        return set(range(field.low, field.high + 1, step))
    first_text, dash, last_text = span.partition("-")
    first = field.number(first_text)
    last = field.number(last_text) if dash else (field.high if slash else first)
    if dash and field is _WEEKDAY and last == 0:
        last = 7
    if first > last:
        raise AuthorError(f"the range {shorten(span, 20)} of the {field.name} runs backwards")
    return set(range(first, last + 1, step))


def _fold(weekdays: frozenset[int]) -> frozenset[int]:
    return frozenset(day % 7 for day in weekdays)


def _split_days(text: str) -> tuple[str, frozenset[int], frozenset[int]]:
    """The ordinary part of a day field, its `L` parts and its `W` parts."""
    plain, before_last, near = [], set(), set()
    for part in text.split(","):
        upper = part.upper()
        if upper == "L":
            before_last.add(0)
        elif upper.startswith("L-"):
            offset = _Field("number of days before the last", 1, 30).number(upper[2:])
            before_last.add(offset)
        elif upper.endswith("W"):
            near.add(_DAY.number(upper[:-1]))
        else:
            plain.append(part)
    return ",".join(plain), frozenset(before_last), frozenset(near)


def _split_weekdays(text: str) -> tuple[str, frozenset[int], frozenset[tuple[int, int]]]:
    """The ordinary part of a weekday field, its `5L` parts and its `5#2` parts."""
    plain, last, nth = [], set(), set()
    for part in text.split(","):
        day, hash_sign, which = part.partition("#")
        if hash_sign:
            nth.add((_WEEKDAY.number(day) % 7, _Field("week of the month", 1, 5).number(which)))
        elif len(part) > 1 and part[-1] in "Ll":
            last.add(_WEEKDAY.number(part[:-1]) % 7)
        elif part.upper() == "L":
            plain.append("6")  # a bare L is Saturday, the last day of the week
        else:
            plain.append(part)
    return ",".join(plain), frozenset(last), frozenset(nth)
