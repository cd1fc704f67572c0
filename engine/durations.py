"""Durations as authors write them: whole seconds, or `1h30m`, `45s`, `2d`, `90`. Zero is
refused."""

from __future__ import annotations

from dataclasses import dataclass

from engine.errors import AuthorError

_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
# 31,000 years; more is a typo, and Python refuses to parse 5,000 digits
_MOST_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Duration:
    """A duration and the author's text for it."""

    seconds: float
    text: str


def parse(value: object) -> Duration:
    """The duration in `value` (whole seconds or text), with the text to repeat to the author."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise AuthorError("a duration is whole seconds or a text such as 90s, 15m, 1h30m or 2d")
    text = (
        str(value).strip() if isinstance(value, str) or abs(value) < 10**_MOST_DIGITS else "9" * 20
    )
    seconds = _parse_text(text)
    if seconds <= 0:
        raise AuthorError("duration must be greater than 0")
    return Duration(float(seconds), f"{text}s" if text.isdigit() else text)


def _parse_text(text: str) -> int:
    if not text:
        raise AuthorError("duration string is empty")
    if text.startswith("-") and text[1:].isdigit():
        raise AuthorError("duration must be greater than 0")
    total, digits = 0, ""
    for letter in text:
        if letter in "0123456789":
            digits += letter
            if len(digits) > _MOST_DIGITS:
                raise AuthorError("duration is too long")
        elif letter.isspace():
            raise AuthorError("write it without spaces")
        elif not digits:
            raise AuthorError(f"unexpected character '{_show(letter)}' without preceding number")
        elif letter not in _UNITS:
            raise AuthorError(f"unknown duration unit '{_show(letter)}' (expected d, h, m, or s)")
        else:
            total += int(digits) * _UNITS[letter]
            digits = ""
    if not digits:
        return total
    if digits != text:
        raise AuthorError(f"trailing number '{digits}' without unit (expected d, h, m, or s)")
    return int(digits)


def _show(letter: str) -> str:
    return (
        letter
        if letter.isprintable()
        else letter.encode("unicode_escape", "backslashreplace").decode()
    )


def describe(seconds: float) -> str:
    """`seconds` as the shortest text that `parse` accepts: 5400 -> `1h30m`. Fractions are
    rounded."""
    left = max(round(seconds), 0)
    hours, left = divmod(left, 3600)
    minutes, left = divmod(left, 60)
    parts = [
        f"{amount}{unit}" for amount, unit in ((hours, "h"), (minutes, "m"), (left, "s")) if amount
    ]
    return "".join(parts) or "0s"
