"""How long a task takes: the usual time of its jobs and steps, and when running ones should end."""

from __future__ import annotations

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import scope
from apps.api.shapes.base import ErrorShape, answer
from apps.api.shapes.durations import StatsShape
from apps.api.views.base import ApiView
from apps.jobs.durations import durations_of

USUAL, MOST = 50, 500
LIMIT = f"a whole number between 1 and {MOST}"


class TaskStatsView(ApiView):
    """Of the newest completed jobs, at most `limit`."""

    query = {"limit": LIMIT}

    @extend_schema(
        parameters=[OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": MOST})],
        responses={200: StatsShape, 400: ErrorShape, 404: ErrorShape},
    )
    def get(self, request: Request, workspace: str, task: str) -> Response:
        row = scope.known_task(request.user, workspace, task)
        window = _window(request.query_params.get("limit") or str(USUAL))
        found = durations_of(row.pk, task, window, timezone.now())
        return answer(StatsShape, found, window=window)


def _window(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MOST):
        raise ParseError(f"limit must be {LIMIT}")
    return int(text)
