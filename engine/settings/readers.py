"""Readers of one value each: they return the value or raise Wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from engine import durations
from engine.errors import AuthorError
from engine.settings.given import Given, Wrong
from engine.spec.problems import nearest
from engine.spec.reader import read

Reader = Callable[[Given], Any]
SECRET_LENGTH = 32
FEWEST_DIFFERENT = 8  # characters of a secret; one made at random has at least a dozen
SAMPLE_TOKEN = "change-me-to-a-random-string-of-32-characters"  # noqa: S105  (refused below)
_BARE = re.compile(r"[-+.\w]+")
_JSON_LIST = re.compile(r'\[\s*["\]]')


def did_you_mean(word: str, known: Iterable[str]) -> str:
    close = nearest(word, known)
    return f"; did you mean '{close}'?" if close else ""


def text(given: Given) -> str:
    value = given.node.value
    if not isinstance(value, str):
        quoted = isinstance(value, bool | int | float)
        raise Wrong("must be a text" + ("; put it in quotes" if quoted else ""))
    if not value.strip():
        raise Wrong("must not be empty")
    return value


def path(given: Given) -> Path:
    return given.reading.locate(text(given).strip())


def token(given: Given) -> str:
    """A shared secret."""
    value = text(given).strip()
    if len(value) < SECRET_LENGTH:
        raise Wrong(f"must be at least {SECRET_LENGTH} characters")
    if value == SAMPLE_TOKEN:
        raise Wrong("is the value of the sample; make one with `openssl rand -hex 32`")
    if is_repetitive(value):
        raise Wrong("repeats the same few characters; make one with `openssl rand -hex 32`")
    return value


def is_repetitive(secret: str) -> bool:
    return len(set(secret)) < FEWEST_DIFFERENT


def web_address(given: Given) -> str:
    value = text(given).strip()
    if not re.match(r"https?://[^/\s]+", value):
        raise Wrong("must begin with http:// or https://")
    return value.rstrip("/")


def words(given: Given, what: str = "texts") -> tuple[str, ...]:
    """A list of texts; in the environment with commas, or as JSON."""
    node, loose = given.node, (given.loose_text or "").strip()
    if _JSON_LIST.match(loose):
        node = read(str(node.place), loose).root or node
    elif given.loose_text is not None:
        return tuple(word.strip() for word in loose.split(",") if word.strip())
    items = node.value if isinstance(node.value, tuple) else (node,)
    found = tuple(item.value for item in items if isinstance(item.value, str))
    if not isinstance(node.value, tuple) or len(found) < len(items):
        raise Wrong(f"must be a list of {what}")
    return found


def choice(given: Given, allowed: tuple[str, ...]) -> str:
    value = given.node.value
    if not isinstance(value, str) or value not in allowed:
        hint = did_you_mean(given.shown, allowed)
        raise Wrong(f"must be one of {', '.join(allowed)}, not '{given.shown}'{hint}")
    return value


def _bare(given: Given) -> Any:
    """A number, `true` or `false`: typed in a file, spelled the same way in the environment."""
    loose = (given.loose_text or "").strip()
    node = read(str(given.node.place), loose).root if _BARE.fullmatch(loose) else None
    return (node or given.node).value


def flag(given: Given) -> bool:
    value = _bare(given)
    if not isinstance(value, bool):
        raise Wrong("must be true or false")
    return value


def number(
    at_least: float | None = None, at_most: float | None = None, *, whole: bool = False
) -> Reader:
    def reader(given: Given) -> float | int:
        value = _bare(given)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (whole and value != int(value)):
            kind = "whole number" if whole else "number"
            raise Wrong(f"must be a {kind}, not '{given.shown}'")
        if at_most is not None and not (at_least or 0) <= value <= at_most:
            raise Wrong(f"must lie between {at_least or 0:g} and {at_most:g}, not {value:g}")
        if at_least is not None and value < at_least:
            raise Wrong(f"must be at least {at_least:g}, not {value:g}")
        return int(value) if whole else float(value)

    return reader


def duration(given: Given) -> float:
    """Seconds from `90`, `90s` or `1h30m`."""
    try:
        return durations.parse(given.node.value).seconds
    except AuthorError as problem:
        raise Wrong(f"is not a duration such as 90s or 1h30m: {problem}") from None
