"""Workspaces, their tasks and their stored secrets."""

from __future__ import annotations

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.errors import TooMany
from apps.accounts.models import signed_in
from apps.accounts.throttles import spend, throttle_key
from apps.api import scope, starting
from apps.api.errors import RETRY_SOON, told
from apps.api.shapes.base import ErrorShape, StatusShape, answer, answer_list, checked
from apps.api.shapes.workspaces import (
    ExecuteRequest,
    ExecuteShape,
    PlanRequest,
    PlanShape,
    RefreshShape,
    RemovedShape,
    SecretRequest,
    SecretShape,
    TaskDetailShape,
    TaskRow,
    TaskShape,
    WorkspaceRow,
    WorkspaceShape,
    plan_rows,
)
from apps.api.views.base import ApiView
from apps.jobs.upkeep.removal import remove_workspace
from apps.workspaces import secrets
from apps.workspaces.connections import kinds_in, stored_names
from apps.workspaces.models import Workspace
from apps.workspaces.refreshing.rounds import refresh
from apps.workspaces.revisions import definition_of, definitions_of
from apps.workspaces.rights import sight_of
from engine.errors import NotFound, PlatformError
from engine.forecast import forecast
from engine.rights import Right
from engine.spec.model import Workspace as Definition

COOLDOWN_S = 5


class WorkspacesView(ApiView):
    @extend_schema(responses=WorkspaceShape(many=True))
    def get(self, request: Request) -> Response:
        rows = list(
            scope.workspaces(request.user).select_related("current").defer("current__definition")
        )
        definitions = definitions_of([row.current_id for row in rows if row.current_id])
        nothing, sight, stored = Definition(), sight_of(request.user), stored_names(rows)
        return answer_list(
            WorkspaceShape,
            [
                WorkspaceRow(
                    row,
                    definitions.get(row.current_id or 0, nothing),
                    sight,
                    stored.get(row.pk, ()),
                )
                for row in rows
            ],
        )


class WorkspaceView(ApiView):
    @extend_schema(responses={200: RemovedShape, 403: ErrorShape, 404: ErrorShape, 409: ErrorShape})
    def delete(self, request: Request, workspace: str) -> Response:
        row = scope.removable_workspace(request.user, workspace)
        jobs = remove_workspace(row.name)
        return answer(RemovedShape, {"workspace": row.name, "removed_jobs": jobs})


class RefreshView(ApiView):
    @extend_schema(
        request=None,
        responses={
            200: RefreshShape,
            404: ErrorShape,
            409: ErrorShape,
            429: ErrorShape,
            503: ErrorShape,
        },
    )
    def post(self, request: Request, workspace: str) -> Response:
        row = scope.workspace(request.user, workspace, Right.MANAGE)
        try:
            spend(throttle_key("refresh-workspace", str(row.pk)), limit=1, window_s=COOLDOWN_S)
        except TooMany as error:
            text = f"Workspace refresh rate-limited; retry after {error.retry_after_s}s"
            raise TooMany(error.retry_after_s, text) from None
        try:
            row = refresh(row)
        except PlatformError as error:
            return Response(told(503, str(error)), 503, headers=RETRY_SOON)
        found = WorkspaceRow(row, Definition(), sight_of(request.user))
        said: dict[str, object] = {
            "workspace": row.name,
            "revision": found.revision,
            "refreshed": True,
            "error": found.quarantine or found.error,
        }
        return answer(RefreshShape, said)


class AllTasksView(ApiView):
    @extend_schema(responses=TaskShape(many=True))
    def get(self, request: Request) -> Response:
        return answer_list(TaskShape, _tasks(request, list(scope.workspaces(request.user))))


class TasksView(ApiView):
    @extend_schema(responses=TaskShape(many=True))
    def get(self, request: Request, workspace: str) -> Response:
        return answer_list(TaskShape, _tasks(request, [scope.workspace(request.user, workspace)]))


class TaskView(ApiView):
    @extend_schema(responses={200: TaskDetailShape, 404: ErrorShape})
    def get(self, request: Request, workspace: str, task: str) -> Response:
        row = scope.task(request.user, workspace, task)
        definition = _definition(row, task)
        rights = sight_of(request.user).on(workspace, task)
        return answer(
            TaskDetailShape,
            TaskRow(task, workspace, definition, rights, kinds_in(row.pk, definition)),
        )


class ExecuteView(ApiView):
    @extend_schema(
        request=ExecuteRequest,
        parameters=[
            OpenApiParameter(
                "Idempotency-Key",
                location=OpenApiParameter.HEADER,
                description="A repeat with the same key within 24 hours answers with the first job",
            )
        ],
        responses={200: ExecuteShape, 400: ErrorShape, 404: ErrorShape, 409: ErrorShape},
    )
    def post(self, request: Request, workspace: str, task: str) -> Response:
        row = scope.task(request.user, workspace, task, Right.RUN, refusal="View-only access")
        given = checked(ExecuteRequest, request)
        _definition(row, task)
        user, key = signed_in(request.user), request.headers.get("Idempotency-Key")
        if key is None:
            job = starting.start(user, row, task, given)
            return answer(ExecuteShape, {"job_id": job.pk})
        job_id, is_repeat = starting.start_once(user, row, task, given, key)
        found = answer(ExecuteShape, {"job_id": job_id})
        if is_repeat:
            found.headers["Idempotent-Replayed"] = "true"
        return found


class PlanView(ApiView):
    """What a job of the task would do with this input. Nothing is run and no secret is read."""

    @extend_schema(
        request=PlanRequest, responses={200: PlanShape, 400: ErrorShape, 404: ErrorShape}
    )
    def post(self, request: Request, workspace: str, task: str) -> Response:
        row = scope.task(request.user, workspace, task, Right.RUN, refusal="View-only access")
        given = checked(PlanRequest, request)
        definition = _definition(row, task)
        steps = forecast(definition, task, given.get("input") or {})
        return answer(PlanShape, {"task": task, "steps": plan_rows(steps, row, definition)})


class SecretsView(ApiView):
    """Names only: a stored value is never shown again."""

    @extend_schema(responses=SecretShape(many=True))
    def get(self, request: Request, workspace: str) -> Response:
        rows = scope.stored_secrets(scope.workspace(request.user, workspace, Right.SECRETS))
        return answer_list(SecretShape, rows.values("name", "updated_at", "updated_by"))


class SecretView(ApiView):
    @extend_schema(request=SecretRequest, responses=StatusShape)
    def put(self, request: Request, workspace: str, name: str) -> Response:
        row = scope.workspace(request.user, workspace, Right.SECRETS)
        body = request.data
        if not isinstance(body, dict) or set(body) != {"value"}:
            raise ParseError('the body must be {"value": ...}')
        secrets.store_secret(row, name, body["value"], by=signed_in(request.user).email)
        return answer(StatusShape, {"status": "ok"})

    @extend_schema(responses={200: StatusShape, 404: ErrorShape})
    def delete(self, request: Request, workspace: str, name: str) -> Response:
        secrets.remove_secret(scope.workspace(request.user, workspace, Right.SECRETS), name)
        return answer(StatusShape, {"status": "ok"})


def _tasks(request: Request, rows: list[Workspace]) -> list[TaskRow]:
    definitions = definitions_of([row.current_id for row in rows if row.current_id])
    sight = sight_of(request.user)
    return [
        TaskRow(name, row.name, definitions[row.current_id], rights)
        for row in rows
        if row.current_id in definitions
        for name in sorted(definitions[row.current_id].tasks)
        if Right.SEE in (rights := sight.on(row.name, name))
    ]


def _definition(row: Workspace, task: str) -> Definition:
    """The definition of the workspace. Raises NotFound if it has no such task."""
    definition = definition_of(row.current_id) if row.current_id else Definition()
    if task not in definition.tasks:
        raise NotFound("Task not found")
    return definition
