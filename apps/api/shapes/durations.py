"""How long a task and its steps took."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.api.shapes.base import Shape
from apps.jobs.durations import Durations, Recent, TaskDurations, Underway


class RecentShape(Shape[Recent]):
    job_id = serializers.UUIDField()
    duration_ms = serializers.IntegerField()
    completed_at = serializers.DateTimeField()


class DurationsShape(Shape[Durations]):
    sample_size = serializers.IntegerField()
    avg_ms = serializers.IntegerField(allow_null=True)
    p50_ms = serializers.IntegerField(allow_null=True)
    p95_ms = serializers.IntegerField(allow_null=True)
    min_ms = serializers.IntegerField(allow_null=True)
    max_ms = serializers.IntegerField(allow_null=True)


class TaskDurationsShape(DurationsShape):
    recent = RecentShape(many=True, help_text="Newest first")


class StepDurationsShape(DurationsShape):
    step_name = serializers.CharField(help_text="A loop counts as one step")


class UnderwayShape(Shape[Underway]):
    job_id = serializers.UUIDField()
    started_at = serializers.DateTimeField()
    eta = serializers.DateTimeField(
        allow_null=True,
        help_text="Expected end: after the usual time, else after that of the slowest 5 %; null if"
        " it took longer, or no job has completed",
    )


class StatsShape(Shape[TaskDurations]):  # the context says of which `window`
    window = serializers.SerializerMethodField()
    task = serializers.SerializerMethodField()
    steps = serializers.SerializerMethodField()
    running = UnderwayShape(many=True)

    def get_window(self, row: TaskDurations) -> int:
        return int(self.context["window"])

    @extend_schema_field(TaskDurationsShape)
    def get_task(self, row: TaskDurations) -> dict[str, Any]:
        recent = [RecentShape().to_representation(one) for one in row.recent]
        return {**DurationsShape().to_representation(row.whole), "recent": recent}

    @extend_schema_field(StepDurationsShape(many=True))
    def get_steps(self, row: TaskDurations) -> list[dict[str, Any]]:
        shape = DurationsShape()
        return [{"step_name": name, **shape.to_representation(one)} for name, one in row.steps]
