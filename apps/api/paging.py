"""Pages: `limit` and `offset`, capped, so that no caller can request everything at once; cursors
for lists that are long, or grow while they are read."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.db.models import Q
from rest_framework.exceptions import ParseError
from rest_framework.request import Request

_CURSOR = re.compile(r"([0-9]{1,17})-([0-9a-f]{32})")
USUAL, MOST, FURTHEST = 50, 500, 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def window(request: Request) -> slice:
    """The slice that the query parameters ask for. Raises ParseError."""
    limit = _number(request, "limit", USUAL, least=1)
    offset = min(_number(request, "offset", 0, least=0), FURTHEST)
    return slice(offset, offset + min(limit, MOST))


def before(request: Request) -> Q:
    """A condition for rows that come after those of the page whose `next` the caller sends, where
    the newest come first. Raises ParseError."""
    given = request.query_params.get("cursor")
    if not given:
        return Q()
    if request.query_params.get("offset"):
        raise ParseError("give cursor or offset, not both")
    found = _CURSOR.fullmatch(given)
    if found is None:
        raise ParseError("cursor must be the `next` of an earlier answer")
    at, row_id = EPOCH + timedelta(microseconds=int(found[1])), UUID(found[2])
    return Q(created_at__lte=at) & (Q(created_at__lt=at) | Q(pk__lt=row_id))


def cursor_after(created_at: datetime, row_id: UUID) -> str:
    """Names this row as the last one of a page."""
    return f"{(created_at - EPOCH) // timedelta(microseconds=1)}-{row_id.hex}"


def _number(request: Request, name: str, usual: int, *, least: int) -> int:
    text = request.query_params.get(name)
    if text is None or text == "":
        return usual
    if not text.isascii() or not text.isdigit() or len(text) > 12 or int(text) < least:
        raise ParseError(f"{name} must be a whole number of at least {least}")
    return int(text)
