"""The export as an answer: JSON lines, a piece at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.db import connection
from django.db.models import QuerySet
from django.http import StreamingHttpResponse

from apps.audit import reading
from apps.audit.models import Entry


def streamed(rows: QuerySet[Entry]) -> StreamingHttpResponse:
    pieces = _pieces(reading.lines(rows))
    answer = StreamingHttpResponse(pieces, content_type="application/x-ndjson")
    answer.headers["Content-Disposition"] = 'attachment; filename="audit.jsonl"'
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


async def _pieces(lines: Iterator[bytes]) -> AsyncIterator[bytes]:
    """In threads: a slow reader holds one piece, and no connection."""

    def following() -> bytes | None:
        try:
            return next(lines, None)
        finally:
            if not connection.in_atomic_block:
                connection.close()

    while (piece := await sync_to_async(following, thread_sensitive=False)()) is not None:
        yield piece
