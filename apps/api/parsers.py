"""JSON bodies of at most 1 MB that PostgreSQL can store; places in a log."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from apps.api.errors import TooLarge
from apps.jobs.log.cursors import Cursor
from engine.spec.written import Written

TRUE_OR_FALSE = "true or false"
# the JSON escape `\u0000`, but not `\\u0000`, which is text
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class BoundedJSONParser(BaseParser):
    """DRF's own parser reads streams of any length and accepts text that no database can store."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        body = stream.read(most + 1)
        if len(body) > most:
            raise TooLarge()
        try:
            # A text field gets `3.10` as the caller wrote it, not 3.1.
            value = json.loads(
                body.decode("utf-8"),
                parse_constant=_refuse_constant,
                parse_float=Written,
                object_pairs_hook=_unique,
            )
            # Decoding turns \ud800 into a lone surrogate and \u0000 into NUL: neither can be
            # stored.
            text = json.dumps(value, ensure_ascii=False)
            text.encode("utf-8")
        except (ValueError, RecursionError) as error:
            raise ParseError(f"The body is not valid JSON: {_reason(error)}") from None
        if _NUL.search(text):
            raise ParseError("The body contains the character NUL, which cannot be stored")
        return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Which of two values counts would be a guess."""
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set[str]()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key '{key[:60]}' appears twice")
            seen.add(key)
    return found


def _reason(error: Exception) -> str:
    match error:
        case RecursionError():
            return "it is nested too deeply"
        case UnicodeDecodeError():
            return "it is not UTF-8 text"
        case UnicodeEncodeError():
            return "it contains half of a surrogate pair"
    return str(error)


def cursor_of(request: Request) -> Cursor:
    """How far the caller has read, as `after` says it."""
    try:
        return Cursor.parse(request.query_params.get("after") or "0")
    except ValueError:
        raise ParseError("after must be the `next` of an earlier answer") from None


def is_true(request: Request, name: str, *, usual: bool) -> bool:
    """A query parameter that is `true` or `false`."""
    given = request.query_params.get(name) or str(usual)
    if given.lower() not in ("true", "false"):
        raise ParseError(f"{name} must be {TRUE_OR_FALSE}")
    return given.lower() == "true"
