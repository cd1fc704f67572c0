"""Jobs: list, details with steps, logs, cancel, counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models import Count, F, QuerySet
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.grants import signed_in
from apps.accounts.models import Role
from apps.api import scope
from apps.api.paging import window
from apps.api.parsers import cursor_of
from apps.api.rendering import StepsRenderer
from apps.api.shapes.base import ErrorShape, LogShape, StatusShape, answer, checked
from apps.api.shapes.jobs import JOB_COLUMNS, JobDetailShape, JobPage, RestartRequest, StepRow
from apps.api.shapes.workspaces import ExecuteShape
from apps.api.views.base import PAGE, ApiView
from apps.jobs import services
from apps.jobs.flow import blueprints, restarts
from apps.jobs.log.cursors import EVERYTHING, Choice, Whose, read
from apps.jobs.models import Attempt, Job
from apps.workflow_actions.snapshots import actions_of
from engine.errors import NotFound
from engine.lifecycle import AttemptStatus, JobStatus, StepStatus

SOURCE_TYPES = (
    "api user trigger webhook hook task mcp agent_tool event_source retry upload rerun restart cli"
).split()
STATUSES = tuple(status.value for status in JobStatus)
COUNTED = (*STATUSES, StepStatus.SKIPPED.value)  # no job is skipped, but callers expect the key
LONGEST_SEARCH = 200
BATCH = 500
SERVER = "_server"
_PAGE = [OpenApiParameter("limit", int), OpenApiParameter("offset", int)]
FILTERS = ("workspace", "task_name", "status", "source_type", "search")
_FILTERS = [
    OpenApiParameter("status", str, enum=STATUSES),
    OpenApiParameter("source_type", str, enum=SOURCE_TYPES),
    *(OpenApiParameter(name, str) for name in ("workspace", "task_name", "search")),
]


class JobsView(ApiView):
    query = (*FILTERS, *PAGE)

    @extend_schema(
        operation_id="jobs_list",
        parameters=[*_FILTERS, *_PAGE],
        responses={200: JobPage, 400: ErrorShape},
    )
    def get(self, request: Request) -> Response:
        found = _filtered(scope.jobs(request.user), request.query_params)
        rows = _described(found).order_by("-created_at", "-id")[window(request)]
        return answer(JobPage, {"items": list(rows), "total": found.count()})


class StatsView(ApiView):
    @extend_schema(responses={200: dict[str, int]})
    def get(self, request: Request) -> Response:
        counted = (
            scope.jobs(request.user).order_by().values_list("status").annotate(count=Count("pk"))
        )
        return Response({**dict.fromkeys(COUNTED, 0), **dict(counted)})


class JobView(ApiView):
    renderer_classes = [StepsRenderer]

    @extend_schema(responses={200: JobDetailShape, 400: ErrorShape, 404: ErrorShape})
    def get(self, request: Request, job: str) -> Response:
        row = scope.job(request.user, job)
        values = _described(scope.jobs(request.user).filter(pk=row.pk)).get()
        steps, actions = _steps(request, row), actions_of(row)
        return answer(
            JobDetailShape, {**values, "job": row, "steps": steps, "workflow_actions": actions}
        )


class CancelView(ApiView):
    @extend_schema(request=None, responses={200: StatusShape, 404: ErrorShape, 409: ErrorShape})
    def post(self, request: Request, job: str) -> Response:
        refusal = "Insufficient permissions to cancel this job"
        row = scope.job(request.user, job, Role.OPERATOR, refusal=refusal)
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
        row = scope.job(request.user, job, Role.OPERATOR, refusal=refusal)
        user = signed_in(request.user)
        if checked(RestartRequest, request).get("failed"):
            restarts.restart_failed(row.pk, actor=user.email)
            return answer(ExecuteShape, {"job_id": row.pk})
        return answer(ExecuteShape, {"job_id": services.rerun_job(row.pk, actor=user).pk})


class LogsView(ApiView):
    query = ("after",)

    @extend_schema(
        parameters=[OpenApiParameter("after", str)], responses={200: LogShape, 404: ErrorShape}
    )
    def get(self, request: Request, job: str) -> Response:
        row = scope.job(request.user, job)
        return _logs(request, row)


class StepLogsView(ApiView):
    """Logs of one step, of all instances of a loop, or of the server (`_server`)."""

    query = ("after",)

    @extend_schema(
        parameters=[OpenApiParameter("after", str)], responses={200: LogShape, 404: ErrorShape}
    )
    def get(self, request: Request, job: str, step: str) -> Response:
        row = scope.job(request.user, job)
        if step == SERVER:
            return _logs(request, row, Choice(Whose.SERVER))
        steps = scope.steps(request.user).filter(job_id=row.pk)
        ids = list(steps.filter(name=step).values_list("pk", flat=True))
        if not ids:
            raise NotFound("Step not found")
        return _logs(request, row, Choice.of(Whose.STEP, *ids))


def _logs(request: Request, row: Job, choice: Choice = EVERYTHING) -> Response:
    return answer(LogShape, read([row.pk], cursor_of(request), choice).as_json())


def _filtered(rows: QuerySet[Job], given: Any) -> QuerySet[Job]:
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
    for name, allowed in (("status", STATUSES), ("source_type", SOURCE_TYPES)):
        value = given.get(name)
        if value and value not in allowed:
            raise ParseError(
                f"Invalid {name} filter '{value[:100]}'. Must be one of: {', '.join(allowed)}"
            )
        if value:
            rows = rows.filter(**{name: value})
    if workspace:
        rows = rows.filter(workspace__name=workspace)
    if task_name:
        rows = rows.filter(task_name=task_name)
    return rows.filter(task_name__icontains=search) if search else rows


def _described(rows: QuerySet[Job]) -> Any:
    """The columns of a list item. Values of the task come from the frozen blueprint, in the same
    query."""
    said = rows.annotate(
        mode=F("blueprint__body__task__mode"),
        max_attempts=F("blueprint__body__task__retry__max_attempts"),
    )
    return said.values(*JOB_COLUMNS)


def _steps(request: Request, row: Job) -> Iterator[list[StepRow]]:
    """In flow order, with the instances of a loop after it; in batches, since there may be
    10,000."""
    plan = blueprints.load(row.blueprint_id)
    found = (
        scope.steps(request.user)
        .filter(job_id=row.pk)
        .defer("output_sealed", "loop_item", "dependents")
    )
    ordered = found.order_by("position", "base", F("loop_index").asc(nulls_first=True))
    with transaction.atomic():  # a server-side cursor needs a transaction
        rows = ordered.iterator(chunk_size=BATCH)
        while batch := list(islice(rows, BATCH)):
            failures = _failures(
                [step.pk for step in batch if step.attempts > 1 or step.losses or step.retry_at]
            )
            yield [StepRow(step, plan.nodes.get(step.base), failures[step.pk]) for step in batch]


def _failures(step_ids: list[int]) -> defaultdict[int, list[Attempt]]:
    """Failed and lost attempts of these steps."""
    failures: defaultdict[int, list[Attempt]] = defaultdict(list)
    if step_ids:
        ended = Attempt.objects.filter(
            step_id__in=step_ids, status__in=[AttemptStatus.FAILED, AttemptStatus.LOST]
        )
        for attempt in ended.order_by("step_id", "fence"):
            failures[attempt.step_id].append(attempt)
    return failures
