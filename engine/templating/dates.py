"""The `date` filter: timestamps and ISO 8601 text, in chrono's format."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from engine.errors import TemplateError
from engine.templating.calls import Call
from engine.templating.values import kind

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?(?:([Zz])|([+-])(\d\d):?(\d\d))?",
    re.ASCII,
)
_DAY = re.compile(r"(\d{4})-(\d\d)-(\d\d)", re.ASCII)
_LETTER = re.compile(r"%(?P<pad>[-_0]?)(?P<code>\.?[369]?f|:{0,3}z|#z|[a-zA-Z+%])|%")
_MAX_FORMAT = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
# letters that expand to others
_COMPOUND = {
    "D": "%m/%d/%y",
    "x": "%m/%d/%y",
    "F": "%Y-%m-%d",
    "v": "%e-%b-%Y",
    "R": "%H:%M",
    "T": "%H:%M:%S",
    "X": "%H:%M:%S",
    "r": "%I:%M:%S %p",
    "c": "%a %b %e %H:%M:%S %Y",
    "+": "%Y-%m-%dT%H:%M:%S%.f%:z",
}
_WORDS: dict[str, Callable[[datetime], str]] = {
    "a": lambda at: _DAYS[at.weekday()][:3],
    "A": lambda at: _DAYS[at.weekday()],
    "b": lambda at: _MONTHS[at.month - 1][:3],
    "h": lambda at: _MONTHS[at.month - 1][:3],
    "B": lambda at: _MONTHS[at.month - 1],
    "p": lambda at: "AM" if at.hour < 12 else "PM",
    "P": lambda at: "am" if at.hour < 12 else "pm",
    "Z": lambda at: _zone_name(at),
    "t": lambda at: "\t",
    "n": lambda at: "\n",
    "%": lambda at: "%",
}
# number, width, padding
_NUMBERS: dict[str, tuple[Callable[[datetime], int], int, str]] = {
    "Y": (lambda at: at.year, 4, "0"),
    "C": (lambda at: at.year // 100, 2, "0"),
    "y": (lambda at: at.year % 100, 2, "0"),
    "m": (lambda at: at.month, 2, "0"),
    "d": (lambda at: at.day, 2, "0"),
    "e": (lambda at: at.day, 2, " "),
    "w": (lambda at: at.isoweekday() % 7, 1, "0"),
    "u": (lambda at: at.isoweekday(), 1, "0"),
    "U": (lambda at: (_year_day(at) + 6 - at.isoweekday() % 7) // 7, 2, "0"),
    "W": (lambda at: (_year_day(at) + 6 - at.weekday()) // 7, 2, "0"),
    "G": (lambda at: at.isocalendar().year, 4, "0"),
    "g": (lambda at: at.isocalendar().year % 100, 2, "0"),
    "V": (lambda at: at.isocalendar().week, 2, "0"),
    "j": (lambda at: _year_day(at), 3, "0"),
    "q": (lambda at: (at.month + 2) // 3, 1, "0"),
    "H": (lambda at: at.hour, 2, "0"),
    "k": (lambda at: at.hour, 2, " "),
    "I": (lambda at: (at.hour + 11) % 12 + 1, 2, "0"),
    "l": (lambda at: (at.hour + 11) % 12 + 1, 2, " "),
    "M": (lambda at: at.minute, 2, "0"),
    "S": (lambda at: at.second, 2, "0"),
    "f": (lambda at: at.microsecond * 1000, 9, "0"),
    "s": (lambda at: (at - _EPOCH) // timedelta(seconds=1), 1, "0"),
}


def date(call: Call, value: Any) -> str:
    pattern = call.text_argument("format", "%Y-%m-%d")
    if len(pattern) > _MAX_FORMAT:
        raise TemplateError(f"{call.what}: the format is longer than {_MAX_FORMAT} characters")
    call.budget.spend(10 + 5 * len(pattern))
    zone = call.text_argument("timezone", "")
    try:
        at, is_moment = _moment(call, value)
        if zone and is_moment:
            at = at.astimezone(_zone(call, zone))
        return _formatted(call, at, pattern)
    except (ValueError, OverflowError):
        raise TemplateError(f"{call.what}: the date is out of range") from None


def _moment(call: Call, value: Any) -> tuple[datetime, bool]:
    """The time, and whether its zone is known, so that it can be converted to another."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _EPOCH + timedelta(seconds=value), True
    if not isinstance(value, str):
        raise TemplateError(
            f"{call.what} works on a timestamp in whole seconds or a string, not on {kind(value)}"
        )
    if found := _DAY.fullmatch(value):
        return datetime(int(found[1]), int(found[2]), int(found[3]), tzinfo=UTC), False
    found = _ISO.fullmatch(value)
    if not found:
        raise TemplateError(
            f"{call.what}: the text is neither YYYY-MM-DD nor an ISO 8601 date and time"
        )
    year, month, day, hour, minute = (int(part) for part in found.groups()[:5])
    micros = int((found[7] or "0").ljust(6, "0")[:6])
    at = datetime(year, month, day, hour, minute, int(found[6] or 0), micros, tzinfo=UTC)
    if not found[9]:
        return at, found[8] is not None
    offset = timedelta(hours=int(found[10]), minutes=int(found[11])) * (
        -1 if found[9] == "-" else 1
    )
    return at.replace(tzinfo=timezone(offset)), True


def _zone(call: Call, name: str) -> ZoneInfo:
    call.budget.spend(100)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise TemplateError(
            f"{call.what}: there is no time zone '{name[:60]}'; write one like Europe/Berlin"
        ) from None


def _formatted(call: Call, at: datetime, pattern: str) -> str:
    def letter(found: re.Match[str]) -> str:
        code, pad = found["code"], found["pad"]
        if code in _COMPOUND and not pad:
            return _LETTER.sub(letter, _COMPOUND[code])
        if code in _WORDS and not pad:
            return _WORDS[code](at)
        if code in _NUMBERS:
            number, width, fill = _NUMBERS[code]
            fill = {"": fill, "-": "", "_": " ", "0": "0"}[pad]
            return str(number(at)).rjust(width, fill) if fill else str(number(at))
        if code and code.endswith("f") and not pad:
            return _fraction(at, code)
        if code and code.endswith("z") and not pad:
            return _offset(at, code)
        raise TemplateError(
            f"{call.what}: the format holds '{found[0]}', which is not a date format letter"
        )

    text = _LETTER.sub(letter, pattern)
    call.budget.allow_text(len(text))
    return text


def _fraction(at: datetime, code: str) -> str:
    nanos = f"{at.microsecond * 1000:09}"
    digits = code.strip(".f")
    if digits:
        shown = nanos[: int(digits)]
    elif not at.microsecond:
        return ""
    else:
        shown = nanos[:3] if nanos.endswith("000000") else nanos[:6]
    return "." + shown if code.startswith(".") else shown


def _offset(at: datetime, code: str) -> str:
    seconds = int((at.utcoffset() or timedelta()).total_seconds())
    sign, seconds = "-" if seconds < 0 else "+", abs(seconds)
    hours, minutes = f"{seconds // 3600:02}", f"{seconds // 60 % 60:02}"
    match code:
        case ":z":
            return f"{sign}{hours}:{minutes}"
        case "::z":
            return f"{sign}{hours}:{minutes}:{seconds % 60:02}"
        case ":::z":
            return f"{sign}{hours}"
    return f"{sign}{hours}{minutes}"


def _zone_name(at: datetime) -> str:
    if isinstance(at.tzinfo, ZoneInfo):
        return at.tzname() or ""
    return "UTC" if at.tzinfo is UTC else _offset(at, ":z")


def _year_day(at: datetime) -> int:
    return at.timetuple().tm_yday
