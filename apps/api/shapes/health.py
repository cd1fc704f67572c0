"""Health of the parts."""

from __future__ import annotations

from rest_framework import serializers

from apps.api.shapes.base import Shape, Values


class ChecksShape(Shape[Values]):
    db = serializers.ChoiceField(["ok", "error"])
    broker = serializers.ChoiceField(["ok", "error"], required=False)
    scheduler = serializers.ChoiceField(
        ["ok", "stopped"], required=False, help_text="Starts what is due"
    )
    recovery = serializers.ChoiceField(
        ["ok", "stopped"], required=False, help_text="Runs in each scheduler"
    )
    schedulers = serializers.IntegerField(required=False, help_text="Any number may run")
    workers = serializers.IntegerField(required=False)

    def to_representation(self, instance: Values) -> dict[str, object]:
        return dict(instance)


class HealthShape(Shape[Values]):
    status = serializers.ChoiceField(["ok", "degraded", "unhealthy"])
    checks = ChecksShape()
