"""Logs of a job's workflow actions. Their states are part of the job."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import scope
from apps.api.parsers import cursor_of
from apps.api.shapes.base import ErrorShape, LogShape, answer, answer_list
from apps.api.shapes.workflow_actions import WorkflowActionShape
from apps.api.views.base import AFTER, ApiView
from apps.jobs import veils
from apps.jobs.log.cursors import Choice, Whose, read
from apps.workflow_actions.snapshots import actions_called, actions_of, has_run
from engine.errors import NotFound
from engine.rights import Right

_PARAMETERS = [
    OpenApiParameter("after", str),
    OpenApiParameter("run", int, description="Only this run: an `id` from the action's `runs`"),
]


class ActionsView(ApiView):
    """The workflow actions of a job with their runs and allocations, newest generation first."""

    @extend_schema(
        responses={200: WorkflowActionShape(many=True), 400: ErrorShape, 404: ErrorShape}
    )
    def get(self, request: Request, job: str) -> Response:
        row = scope.job(request.user, job)
        found = veils.actions(actions_of(row), scope.rights(request.user, row))
        return answer_list(WorkflowActionShape, found)


class ActionLogsView(ApiView):
    """Logs of all runs of one action, by its name, or by its index if it has none."""

    query = {**AFTER, "run": "the id of a run"}

    @extend_schema(
        parameters=_PARAMETERS, responses={200: LogShape, 400: ErrorShape, 404: ErrorShape}
    )
    def get(self, request: Request, job: str, action: str) -> Response:
        row = scope.job(request.user, job, Right.LOGS)
        choice = Choice.of(Whose.ACTION, *actions_called(row, action))
        wanted = request.query_params.get("run")
        if wanted:
            if not (wanted.isascii() and wanted.isdigit()):
                raise ParseError("run must be the id of a run")
            if not has_run(row.pk, choice.ids, int(wanted)):
                raise NotFound("The workflow action has no such run")
            choice = Choice.of(Whose.ATTEMPT, int(wanted))
        return answer(LogShape, read([row.pk], cursor_of(request), choice).as_json())
