"""What people read line by line: names and messages on one line, and short, whatever others put
into them; and log lines, which only we begin.

Log lines are for people (`key=value` after the message) or for machines (JSON lines). Context goes
into `extra={"fields": {...}}`, never into the message, so that both formats show it. None values
are left out.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any

_WORD = re.compile(r"[\w.:/+\[\]-]+")
_CREDENTIALS = re.compile(r"(?<=://)[^\s/@]*@")


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


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    given = getattr(record, "fields", None) or {}
    return {name: value for name, value in given.items() if value is not None}


def _message(record: logging.LogRecord, formatter: logging.Formatter) -> str:
    """The message with its traceback; user and password in URLs are removed."""
    text = record.getMessage()
    if record.exc_info:
        text = f"{text}\n{formatter.formatException(record.exc_info)}"
    return _CREDENTIALS.sub("", text) if "@" in text else text


class TextFormatter(logging.Formatter):
    """`2026-11-29 20:15:00,123 INFO stroem.worker: step finished job=... status=succeeded`.

    Further lines are indented: only we begin lines.
    """

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created)  # noqa: DTZ006  (the reader's local time)
        first, _, rest = _message(record, self).partition("\n")
        told = "".join(f" {name}={_shown(value)}" for name, value in fields_of(record).items())
        head = f"{at:%Y-%m-%d %H:%M:%S},{int(record.msecs):03d} {record.levelname} {record.name}"
        more = "".join(f"\n  {plain(line)}" for line in rest.split("\n")) if rest else ""
        return f"{head}: {plain(first)}{told}{more}"


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, logger, message, and the record's fields."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": at,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _message(record, self),
        }
        return json.dumps({**fields_of(record), **line}, ensure_ascii=False, default=str)


def _shown(value: Any) -> str:
    text = str(value)
    return text if _WORD.fullmatch(text) else json.dumps(text, ensure_ascii=False)


FORMATTERS: dict[str, type[logging.Formatter]] = {"text": TextFormatter, "json": JsonFormatter}
