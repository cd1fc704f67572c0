"""Search in the log of a job."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import scope
from apps.api.shapes.base import ErrorShape, answer
from apps.api.shapes.log_search import LogSearchShape
from apps.api.views.base import AFTER, ApiView
from apps.jobs.log import search
from engine.rights import Right

USUAL_HITS = 100
LIMIT = f"1 to {search.MOST_HITS}"


class LogSearchView(ApiView):
    """Lines of a job's log that hold a text, in either case, oldest first. One call reads about 32
    MB: while `stopped` is `scanned` or `limit`, send `next` as `after` to search on."""

    query = {"q": "", "step": "the name of a step", **AFTER, "limit": LIMIT}

    @extend_schema(
        operation_id="jobs_logs_search",
        parameters=[
            OpenApiParameter("q", str, required=True, description="The text; no pattern"),
            OpenApiParameter("step", str, description="Only this step; `_server` for the server"),
            OpenApiParameter("after", str, description="`next` of the last answer"),
            OpenApiParameter(
                "limit", int, description=f"How many lines, {USUAL_HITS} if not given"
            ),
        ],
        responses={
            200: LogSearchShape,
            400: ErrorShape,
            403: ErrorShape,
            404: ErrorShape,
            503: ErrorShape,
        },
    )
    def get(self, request: Request, job: str) -> Response:
        row = scope.job(request.user, job, Right.LOGS)
        given = request.query_params
        choice = scope.part_of_log(row, given.get("step") or "")
        found = search.find(row.pk, choice, _text(request), _place(request), _limit(request))
        return answer(
            LogSearchShape,
            {"items": found.hits, "next": str(found.next), "stopped": found.stopped.value},
        )


def _text(request: Request) -> str:
    text = request.query_params.get("q") or ""
    if not text or len(text) > search.LONGEST_TERM or "\x00" in text:
        raise ParseError(f"q must be a text of at most {search.LONGEST_TERM} characters")
    return text


def _place(request: Request) -> search.Place:
    try:
        return search.Place.parse(request.query_params.get("after") or "0")
    except ValueError:
        raise ParseError("after must be the `next` of an earlier answer") from None


def _limit(request: Request) -> int:
    given = request.query_params.get("limit") or str(USUAL_HITS)
    if not (given.isascii() and given.isdigit() and len(given) < 10):
        raise ParseError(f"limit must be {LIMIT}")
    if not 1 <= int(given) <= search.MOST_HITS:
        raise ParseError(f"limit must be {LIMIT}")
    return int(given)
