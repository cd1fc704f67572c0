"""The audit log, for administrators: newest first, page by page, or all of it as JSON lines."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db.models import QuerySet
from django.http import StreamingHttpResponse
from django.utils.dateparse import parse_datetime
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api.paging import window
from apps.api.shapes.audit import EntryPage
from apps.api.shapes.base import ErrorShape, answer
from apps.api.views.base import CURSOR, LIMIT, WORKSPACE
from apps.api.views.people import AdminView
from apps.audit import reading
from apps.audit.models import Entry
from apps.audit.streaming import streamed

TIME = "a time with its zone: 2026-01-31T12:00:00Z"
TIMES = ("since", "until")
FILTERS = {
    "who": "an e-mail",
    "what": "a change, such as secret.set, or a kind of object",
    "object": "the name of an object",
    **WORKSPACE,
    "address": "the address of a caller",
    "key": "the name of an API key",
    **dict.fromkeys(TIMES, TIME),
    "search": "a text to search for",
}
_TOLD = [
    OpenApiParameter("who", str, description="E-mail"),
    OpenApiParameter("what", str, description="`secret.set`, or a kind of object: `secret`"),
    *(OpenApiParameter(name, str) for name in ("object", "workspace", "address", "key")),
    *(OpenApiParameter(name, OpenApiTypes.DATETIME) for name in TIMES),
    OpenApiParameter("search", str, description="Names as a whole; parts of them in newer entries"),
]


class AuditView(AdminView):
    query = {**FILTERS, **LIMIT, **CURSOR}

    @extend_schema(
        operation_id="audit_list",
        parameters=[*_TOLD, OpenApiParameter("limit", int), OpenApiParameter("cursor", str)],
        responses={200: EntryPage, 400: ErrorShape},
    )
    def get(self, request: Request) -> Response:
        rows, size = _chosen(request), window(request).stop
        if cursor := request.query_params.get("cursor"):
            after = reading.before(cursor)
            if after is None:
                raise ParseError("cursor must be the `next` of an earlier answer")
            rows = rows.filter(after)
        found = list(rows[: size + 1])
        page = found[:size]
        following = reading.cursor_after(page[-1]) if len(found) > size else None
        items = [reading.as_json(row) for row in page]
        return answer(EntryPage, {"items": items, "next": following})


class AuditExportView(AdminView):
    query = FILTERS

    @extend_schema(
        operation_id="audit_export",
        parameters=_TOLD,
        responses={(200, "application/x-ndjson"): OpenApiTypes.STR, 400: ErrorShape},
    )
    def get(self, request: Request) -> StreamingHttpResponse:
        return streamed(_chosen(request))


def _chosen(request: Request) -> QuerySet[Entry]:
    """Raises ParseError."""
    given = {name: request.query_params.get(name, "") for name in reading.COLUMNS}
    since, until = (_time(request, name) for name in TIMES)
    if since and until and since >= until:
        raise ParseError("since must be before until")
    rows = reading.chosen(given, since, until)
    return reading.searched(rows, request.query_params.get("search", ""))


def _time(request: Request, name: str) -> datetime | None:
    text = request.query_params.get(name)
    if not text:
        return None
    wrong = f"{name} must be {TIME}"
    try:
        found = parse_datetime(text)
        if found is None or found.tzinfo is None:
            raise ParseError(wrong)
        return found.astimezone(UTC)  # the database knows no zones beyond 16 hours
    except (ValueError, OverflowError):
        raise ParseError(wrong) from None
