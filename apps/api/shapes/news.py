"""What a follower of a job is told."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apps.api.shapes.base import Shape, TextOrNull, Values
from apps.workflow_actions.following import News
from engine.news import Relative, StepNews


class RelativeShape(Shape[Relative]):
    id = serializers.UUIDField()
    retry_of = serializers.UUIDField(allow_null=True)
    parent = serializers.UUIDField(allow_null=True)  # type: ignore[assignment]  # of DRF, too
    parent_step = serializers.CharField()
    source_type = serializers.CharField()
    source_id = serializers.CharField()
    task = serializers.CharField()


class StepNewsShape(Shape[StepNews]):
    id = serializers.IntegerField()
    job_id = serializers.UUIDField()
    name = serializers.CharField()
    status = serializers.CharField(help_text="`pending`: it failed and is tried again")
    error = TextOrNull()
    seconds = serializers.FloatField(help_text="Since its start; or until the next try")


class ActionNewsShape(Shape[Values]):
    id = serializers.IntegerField(source="action_id")
    job_id = serializers.UUIDField()
    label = serializers.CharField()  # type: ignore[assignment]  # of DRF, too
    status = serializers.CharField()
    progress = serializers.CharField()
    reason = serializers.CharField()


class JobLinesShape(Shape[Values]):
    job_id = serializers.UUIDField()
    logs = serializers.CharField(help_text="JSON lines: {ts, stream, step, line}")


class NewsShape(Shape[News]):
    relatives = RelativeShape(many=True, help_text="Jobs that it set off, in turn")
    steps = StepNewsShape(many=True, help_text="Steps that run, wait, or have just ended")
    actions = ActionNewsShape(many=True, help_text="Workflow actions that have ended")
    logs = serializers.SerializerMethodField()
    next = serializers.CharField(source="log.next", help_text="Send it as `after`")
    has_more = serializers.BooleanField(source="log.has_more")
    has_ended = serializers.BooleanField(help_text="Nothing of it is open any more")

    hidden = TextOrNull(help_text="Why lines and errors of some jobs are left out")

    @extend_schema_field(JobLinesShape(many=True))
    def get_logs(self, row: News) -> list[dict[str, Any]]:
        return [{"job_id": job_id, "logs": lines} for job_id, lines in row.log.chunks]

    def to_representation(self, instance: News) -> dict[str, Any]:
        said = super().to_representation(instance)
        return said | {"next": str(instance.log.next)}
