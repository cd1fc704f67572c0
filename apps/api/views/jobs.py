"""Jobs: list, details with steps, logs, cancel, counts."""

from __future__ import annotations

import re
from typing import Any
from uuid import UUID

from django.db.models import Count, F, QuerySet
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import signed_in
from apps.api import scope, tags
from apps.api.paging import before, cursor_after, window
from apps.api.parsers import TRUE_OR_FALSE, cursor_of, is_true
from apps.api.rendering import StepsRenderer
from apps.api.shapes.base import ErrorShape, LogShape, StatusShape, answer, checked
from apps.api.shapes.jobs import JOB_COLUMNS, JobDetailShape, JobPage, RestartRequest
from apps.api.shapes.workspaces import ExecuteShape
from apps.api.views.base import AFTER, CURSOR, PAGE, WORKSPACE, ApiView, chosen, one_of
from apps.api.views.steps import step_rows
from apps.jobs import services, veils
from apps.jobs.flow import restarts
from apps.jobs.log.cursors import EVERYTHING, Choice, read
from apps.jobs.models import Job
from apps.jobs.names import tasks_with
from apps.workflow_actions.snapshots import actions_of
from engine.lifecycle import JobStatus, StepStatus
from engine.rights import Right

SOURCE_TYPES = (
    "api user trigger webhook hook task mcp agent_tool event_source consumer retry upload rerun"
    " restart cli check"
).split()
STATUSES = tuple(status.value for status in JobStatus)
COUNTED = (*STATUSES, StepStatus.SKIPPED.value)  # no job is skipped, but callers expect the key
LONGEST_SEARCH = 200
MOST_COUNTED = 100_000
_PAGE = [OpenApiParameter("limit", int), OpenApiParameter("offset", int)]
FILTERS = {
    **WORKSPACE,
    "task_name": "the name of a task",
    "status": one_of(STATUSES),
    "source_type": one_of(SOURCE_TYPES),
    "search": "a part of the name of a task",
    "id_prefix": "the first characters of a job's id, at least 4",
}
_PREFIX = re.compile(r"[0-9a-f]{4,32}")
_FILTERS = [
    OpenApiParameter("status", str, enum=STATUSES),
    OpenApiParameter("source_type", str, enum=SOURCE_TYPES),
    *(OpenApiParameter(name, str) for name in ("workspace", "task_name", "search")),
    OpenApiParameter("id_prefix", str, description="The first characters of the id, at least 4"),
]


class JobsView(ApiView):
    """Newest first. For long lists send `next` of the last answer as `cursor`: it misses no job and
    repeats none while new ones start."""

    query = {**FILTERS, **PAGE, **CURSOR}

    @extend_schema(
        operation_id="jobs_list",
        parameters=[*_FILTERS, *_PAGE, OpenApiParameter("cursor", str)],
        responses={200: JobPage, 400: ErrorShape, 404: ErrorShape},
    )
    def get(self, request: Request) -> Response:
        found = _filtered(request)
        part = window(request)
        # Ids alone come from an index, however far the page is.
        keys = found.filter(before(request)).order_by("-created_at", "-id")
        ids = list(keys.values_list("pk", flat=True)[part])
        task_name = request.query_params.get("task_name")
        if task_name and not ids:
            scope.known_task(request.user, request.query_params["workspace"], task_name)
        rows = list(
            _described(Job.objects.filter(pk__in=ids)).order_by("-created_at", "-id") if ids else ()
        )
        is_full = len(ids) == part.stop - part.start
        return answer(
            JobPage,
            {
                "items": rows,
                "total": found.order_by()[:MOST_COUNTED].count(),
                "next": cursor_after(rows[-1]["created_at"], rows[-1]["id"])
                if is_full and rows
                else None,
            },
        )


class StatsView(ApiView):
    @extend_schema(responses={200: dict[str, int]})
    def get(self, request: Request) -> Response:
        counted = (
            scope.jobs(request.user).order_by().values_list("status").annotate(count=Count("pk"))
        )
        return Response({**dict.fromkeys(COUNTED, 0), **dict(counted)})


class JobView(ApiView):
    """A job with its steps and workflow actions; with `steps=false`, without them."""

    renderer_classes = [StepsRenderer]
    query = {"steps": TRUE_OR_FALSE}

    @extend_schema(
        parameters=[
            OpenApiParameter("steps", bool),
            OpenApiParameter(
                "If-None-Match", str, OpenApiParameter.HEADER, description="`ETag` of an answer"
            ),
        ],
        responses={
            200: JobDetailShape,
            304: OpenApiResponse(description="Nothing has changed"),
            400: ErrorShape,
            404: ErrorShape,
        },
    )
    def get(self, request: Request, job: str) -> Response:
        row = scope.job(request.user, job)
        rights = scope.rights(request.user, row)
        with_steps = is_true(request, "steps", usual=True)
        actions = veils.actions(actions_of(row), rights) if with_steps else []
        tag = tags.tag_of(row, actions, rights, with_steps=with_steps)
        if tags.is_known(request, tag):
            return Response(status=304, headers={"ETag": tag})
        values = _described(Job.objects.filter(pk=row.pk)).get()
        steps = step_rows(row, rights) if with_steps else iter(())
        shown = {
            **values,
            "job": veils.job(row, rights),
            "steps": steps,
            "workflow_actions": actions,
            "hidden": veils.reasons(rights),
        }
        found = answer(JobDetailShape, shown)
        found.headers["ETag"] = tag
        return found


class CancelView(ApiView):
    @extend_schema(request=None, responses={200: StatusShape, 404: ErrorShape, 409: ErrorShape})
    def post(self, request: Request, job: str) -> Response:
        refusal = "Insufficient permissions to cancel this job"
        row = scope.job(request.user, job, Right.RUN, refusal=refusal)
        services.cancel_job(row.pk, actor=signed_in(request.user).email)
        return answer(StatusShape, {"status": JobStatus.CANCELLED})


class RestartView(ApiView):
    """Runs a job again. With `failed`, the job itself goes on: its failed and cancelled steps, and
    those skipped because of them, run again. Without, a new job starts with the same input on the
    current revision."""

    @extend_schema(
        request=RestartRequest, responses={200: ExecuteShape, 404: ErrorShape, 409: ErrorShape}
    )
    def post(self, request: Request, job: str) -> Response:
        refusal = "Insufficient permissions to restart this job"
        row = scope.job(request.user, job, Right.RUN, refusal=refusal)
        user = signed_in(request.user)
        if checked(RestartRequest, request).get("failed"):
            restarts.restart_failed(row.pk, actor=user.email)
            return answer(ExecuteShape, {"job_id": row.pk})
        return answer(ExecuteShape, {"job_id": services.rerun_job(row.pk, actor=user).pk})


class LogsView(ApiView):
    query = AFTER

    @extend_schema(
        parameters=[OpenApiParameter("after", str)], responses={200: LogShape, 404: ErrorShape}
    )
    def get(self, request: Request, job: str) -> Response:
        row = scope.job(request.user, job, Right.LOGS)
        return _logs(request, row)


class StepLogsView(ApiView):
    """Logs of one step, of all instances of a loop, or of the server (`_server`)."""

    query = AFTER

    @extend_schema(
        parameters=[OpenApiParameter("after", str)], responses={200: LogShape, 404: ErrorShape}
    )
    def get(self, request: Request, job: str, step: str) -> Response:
        row = scope.job(request.user, job, Right.LOGS)
        return _logs(request, row, scope.part_of_log(row, step))


def _logs(request: Request, row: Job, choice: Choice = EVERYTHING) -> Response:
    return answer(LogShape, read([row.pk], cursor_of(request), choice).as_json())


def _filtered(request: Request) -> QuerySet[Job]:
    given = request.query_params
    workspace, task_name = given.get("workspace"), given.get("task_name")
    search = (given.get("search") or "").strip()
    if task_name and not workspace:
        raise ParseError("task_name filter requires workspace")
    if task_name and search:
        raise ParseError("Cannot use both task_name and search filters")
    if len(search) > LONGEST_SEARCH:
        raise ParseError("Search term must be 200 characters or fewer")
    if any("\x00" in value for value in given.values()):
        raise ParseError("A filter contains the character NUL")
    rows = scope.listed_jobs(request.user, workspace or None)
    for name, allowed in (("status", STATUSES), ("source_type", SOURCE_TYPES)):
        if value := chosen(request, name, allowed):
            rows = rows.filter(**{name: value})
    if task_name:
        rows = rows.filter(task_name=task_name)
    if prefix := given.get("id_prefix"):
        rows = rows.filter(pk__range=_ids_from(prefix))
    if not search:
        return rows
    names = tasks_with(search)
    if names is None:
        return rows.filter(task_name__icontains=search)
    return rows.filter(task_name__in=names)


def _ids_from(prefix: str) -> tuple[UUID, UUID]:
    """The first and the last id that begin so."""
    digits = prefix.strip().lower().replace("-", "")
    if not _PREFIX.fullmatch(digits):
        raise ParseError("id_prefix must be 4 to 32 hexadecimal digits of a job's id")
    return UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))


def _described(rows: QuerySet[Job]) -> Any:
    """The columns of a list item. Values of the task come from the frozen blueprint, in the same
    query."""
    said = rows.annotate(
        mode=F("blueprint__body__task__mode"),
        max_attempts=F("blueprint__body__task__retry__max_attempts"),
    )
    return said.values(*JOB_COLUMNS)
