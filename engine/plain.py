"""Names and messages on one line, and short, whatever others put into them."""

from __future__ import annotations


def plain(text: object) -> str:
    """`text` with control characters and what cannot be shown escaped: a line break in a file's
    name begins no line of a report, and an escape sequence reaches no terminal."""
    known = str(text)
    return known if known.isprintable() else "".join(map(_escaped, known))


def shorten(value: object, limit: int = 60) -> str:
    """`value` as text for a message: control characters escaped, at most `limit` characters."""
    text = plain(str(value)[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def plain_lines(text: str) -> str:
    """The same for text of several lines."""
    return "\n".join(plain(line) for line in text.split("\n"))


def _escaped(letter: str) -> str:
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()
