"""Workers and their latest steps."""

from __future__ import annotations

from django.db.models import Case, Q, QuerySet, Value, When
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import scope
from apps.api.paging import window
from apps.api.shapes.base import ErrorShape, answer
from apps.api.shapes.workers import WorkerDetailShape, WorkerPage, WorkerStepShape
from apps.api.views.base import PAGE, ApiView, chosen, one_of
from apps.fleet import vitals
from apps.fleet.models import Worker
from engine.errors import NotFound

STEPS_SHOWN = 50
PRESENCES = {"here": Q(stopped_at=None), "gone": Q(stopped_at__isnull=False), "all": Q()}
TOLD = "`here`: has not stopped; `all` if it is left out"


class WorkersView(ApiView):
    query = {"presence": one_of(PRESENCES), **PAGE}

    @extend_schema(
        operation_id="workers_list",
        parameters=[
            OpenApiParameter("presence", str, enum=list(PRESENCES), description=TOLD),
            OpenApiParameter("limit", int),
            OpenApiParameter("offset", int),
        ],
        responses={200: WorkerPage, 400: ErrorShape},
    )
    def get(self, request: Request) -> Response:
        rows = scope.workers().filter(PRESENCES[chosen(request, "presence", PRESENCES) or "all"])
        page = _with_state(rows)[window(request)]
        return answer(WorkerPage, {"items": page, "total": rows.count()})


class WorkerView(ApiView):
    @extend_schema(responses={200: WorkerDetailShape, 400: ErrorShape, 404: ErrorShape})
    def get(self, request: Request, worker: str) -> Response:
        rows = scope.workers().filter(pk=scope.uuid_of(worker, "Invalid worker ID"))
        row = _with_state(rows).first()
        if row is None:
            raise NotFound("Worker not found")
        steps = scope.steps(request.user).filter(worker_id=row.pk)
        columns = [field.source or name for name, field in WorkerStepShape().fields.items()]
        newest = steps.order_by("-started_at", "-id").values(*columns)[:STEPS_SHOWN]
        return answer(WorkerDetailShape, row, steps={"items": newest, "total": steps.count()})


def _with_state(rows: QuerySet[Worker]) -> QuerySet[Worker]:
    status = Case(When(is_alive=True, then=Value("active")), default=Value("inactive"))
    return vitals.with_vitals(rows).annotate(status=status)
