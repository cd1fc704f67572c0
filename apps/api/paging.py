"""`limit` and `offset`, capped: no caller can request everything at once."""

from __future__ import annotations

from rest_framework.exceptions import ParseError
from rest_framework.request import Request

USUAL, MOST, FURTHEST = 50, 500, 1_000_000


def window(request: Request) -> slice:
    """The slice that the query parameters ask for. Raises ParseError."""
    limit = _number(request, "limit", USUAL, least=1)
    offset = min(_number(request, "offset", 0, least=0), FURTHEST)
    return slice(offset, offset + min(limit, MOST))


def _number(request: Request, name: str, usual: int, *, least: int) -> int:
    text = request.query_params.get(name)
    if text is None or text == "":
        return usual
    if not text.isascii() or not text.isdigit() or len(text) > 12 or int(text) < least:
        raise ParseError(f"{name} must be a whole number of at least {least}")
    return int(text)
