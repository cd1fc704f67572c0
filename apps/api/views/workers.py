"""Workers that were seen, and what they did last."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.api import scope
from apps.api.paging import window
from apps.api.serializers import ErrorShape, WorkerDetailShape, WorkerPage
from apps.fleet import vitals
from engine.errors import NotFound

STEPS_SHOWN = 50
_STEP_COLUMNS = {
    "workspace": "job__workspace__name",
    "task_name": "job__task_name",
    "job_status": "job__status",
    "step_name": "name",
    "action_type": "kind",
    "status": "status",
    "started_at": "started_at",
    "completed_at": "completed_at",
    "error_message": "error",
}


class WorkersView(APIView):
    @extend_schema(
        operation_id="workers_list",
        parameters=[OpenApiParameter("limit", int), OpenApiParameter("offset", int)],
        responses=WorkerPage,
    )
    def get(self, request: Request) -> Response:
        rows = scope.workers()
        page = vitals.with_vitals(rows)[window(request)]
        return Response({"items": [_worker(row) for row in page], "total": rows.count()})


class WorkerView(APIView):
    @extend_schema(responses={200: WorkerDetailShape, 400: ErrorShape, 404: ErrorShape})
    def get(self, request: Request, worker: str) -> Response:
        row = (
            vitals.with_vitals(scope.workers())
            .filter(pk=scope.uuid_of(worker, "Invalid worker ID"))
            .first()
        )
        if row is None:
            raise NotFound("Worker not found")
        steps = scope.steps(request.user).filter(worker_id=row.pk)
        newest = steps.order_by("-started_at", "-id").values_list(
            "job_id", *_STEP_COLUMNS.values()
        )[:STEPS_SHOWN]
        items = [dict(zip(("job_id", *_STEP_COLUMNS), values, strict=True)) for values in newest]
        return Response({**_worker(row), "steps": {"items": items, "total": steps.count()}})


def _worker(row: Any) -> dict[str, Any]:
    return {
        "worker_id": row.pk,
        "name": row.name,
        "status": "active" if row.is_alive else "inactive",
        "capabilities": sorted(set(row.tags) & {"script", "docker", "kubernetes", "agent"}),
        "tags": row.tags,
        "version": row.version,
        "last_heartbeat": row.heartbeat_at,
        "registered_at": row.started_at,
    }
