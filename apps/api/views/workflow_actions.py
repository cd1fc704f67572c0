"""Logs of a job's workflow actions. Their states are part of the job."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.api import logreader, scope
from apps.api.shapes.base import ErrorShape, LogShape, answer
from apps.workflow_actions.snapshots import runs_called
from engine.errors import NotFound

_PARAMETERS = [
    OpenApiParameter("after", str),
    OpenApiParameter("run", int, description="Only this run: an `id` from the action's `runs`"),
]


class ActionLogsView(APIView):
    """Logs of all runs of one action, by its name, or by its index if it has none."""

    @extend_schema(
        parameters=_PARAMETERS, responses={200: LogShape, 400: ErrorShape, 404: ErrorShape}
    )
    def get(self, request: Request, job: str, action: str) -> Response:
        row = scope.job(request.user, job)
        runs = runs_called(row, action)
        wanted = request.query_params.get("run")
        if wanted:
            if not (wanted.isascii() and wanted.isdigit()):
                raise ParseError("run must be the id of a run")
            if int(wanted) not in runs:
                raise NotFound("The workflow action has no such run")
            runs = [int(wanted)]
        cursor = logreader.Cursor.parse(request.query_params.get("after") or "0")
        piece = logreader.read([row.pk], cursor, attempt_ids=[-run for run in runs])
        return answer(LogShape, piece.as_json())
