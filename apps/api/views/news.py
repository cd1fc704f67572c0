"""News of a job and of the jobs that it set off, for followers: one request for each look."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import scope
from apps.api.parsers import cursor_of
from apps.api.shapes.base import ErrorShape, answer
from apps.api.shapes.news import NewsShape
from apps.api.views.base import AFTER, ApiView
from apps.workflow_actions.following import Within, news
from apps.workspaces.rights import sight_of
from engine.rights import Right

MOST_KNOWN, LONGEST_ID = 1000, 18
ENDED_WITHIN_S = 15.0  # looks over a network are slow


class NewsView(ApiView):
    """What runs or has just ended, and the lines since `after`. Jobs that the caller must not see
    are left out; of those whose logs they must not see, lines and errors, which `hidden` says."""

    query = {**AFTER, "known": ""}  # nothing known is a list as well

    @extend_schema(
        parameters=[
            OpenApiParameter("after", str),
            OpenApiParameter(
                "known",
                str,
                description="Ids of workflow actions already told of, with commas; or none",
            ),
        ],
        responses={200: NewsShape, 400: ErrorShape, 404: ErrorShape},
    )
    def get(self, request: Request, job: str) -> Response:
        row = scope.job(request.user, job)
        sight = sight_of(request.user)
        found = news(
            row.pk,
            cursor_of(request),
            _known(request),
            Within(sight.tasks(), sight.tasks(Right.LOGS)),
            ended_within_s=ENDED_WITHIN_S,
        )
        return answer(NewsShape, found)


def _known(request: Request) -> list[int]:
    words = [word for word in (request.query_params.get("known") or "").split(",") if word]
    if len(words) > MOST_KNOWN or not all(
        word.isascii() and word.isdigit() and len(word) <= LONGEST_ID for word in words
    ):
        raise ParseError(f"known must be at most {MOST_KNOWN} ids with commas between them")
    return [int(word) for word in words]
