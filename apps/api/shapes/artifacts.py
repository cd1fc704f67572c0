"""Files that a job's steps have left."""

from __future__ import annotations

from rest_framework import serializers

from apps.api.shapes.base import Shape
from apps.artifacts.models import Artifact
from engine.artifacts import address


class ArtifactShape(Shape[Artifact]):
    name = serializers.CharField(help_text="A path, which may have folders")
    content_type = serializers.CharField()
    size_bytes = serializers.IntegerField()
    step_name = serializers.CharField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True)
    digest = serializers.CharField(source="blob.digest", help_text="SHA-256")
    is_program = serializers.BooleanField(help_text="Whether the step had made it executable")
    url = serializers.SerializerMethodField(help_text="Relative to the server")

    def get_url(self, row: Artifact) -> str:
        step = row.step_name if row.name in self.context.get("ambiguous", ()) else None
        return address(str(row.job_id), row.name, step)
