"""Workers and their latest steps."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.api.shapes.base import Shape, Values
from apps.fleet.models import Worker
from apps.fleet.vitals import WorkerState

CAPABILITIES = {"script", "docker", "kubernetes", "agent"}


class WorkerShape(Shape[Worker]):  # from a row annotated with `status` and `state`
    worker_id = serializers.UUIDField(source="pk")
    name = serializers.CharField()
    status = serializers.ChoiceField(["active", "inactive"])
    state = serializers.ChoiceField([state.value for state in WorkerState])
    busy = serializers.IntegerField(help_text="Slots that run something")
    slots = serializers.IntegerField()
    capabilities = serializers.SerializerMethodField()
    tags = serializers.ListField(child=serializers.CharField())
    version = serializers.CharField()
    last_heartbeat = serializers.DateTimeField(source="heartbeat_at")
    registered_at = serializers.DateTimeField(source="started_at")

    def get_capabilities(self, row: Worker) -> list[str]:
        return sorted(CAPABILITIES.intersection(row.tags))


class WorkerPage(Shape[Values]):
    items = WorkerShape(many=True)
    total = serializers.IntegerField()


class WorkerStepShape(Shape[Values]):
    job_id = serializers.UUIDField()
    workspace = serializers.CharField(source="job__workspace__name")
    task_name = serializers.CharField(source="job__task_name")
    job_status = serializers.CharField(source="job__status")
    step_name = serializers.CharField(source="name")
    action_type = serializers.CharField(source="kind")
    status = serializers.CharField()
    started_at = serializers.DateTimeField(allow_null=True)
    completed_at = serializers.DateTimeField(allow_null=True)
    error_message = serializers.CharField(source="error")


class WorkerStepPage(Shape[Values]):
    items = WorkerStepShape(many=True)
    total = serializers.IntegerField()


class WorkerDetailShape(WorkerShape):  # its `steps` come with the context
    steps = serializers.SerializerMethodField()

    @extend_schema_field(WorkerStepPage)
    def get_steps(self, row: Worker) -> dict[str, Any]:
        return WorkerStepPage(self.context["steps"]).data
