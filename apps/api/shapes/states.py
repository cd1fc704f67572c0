"""What tasks and workspaces remember."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rest_framework import serializers

from apps.api.shapes.base import Shape, TextOrNull, Values
from apps.artifacts.models import StateVersion
from apps.artifacts.state.history import Shown
from engine.state import Difference, StateFile


@dataclass(frozen=True, slots=True)
class StateRow:
    """A version with the names that its address has. `task` is None for the workspace's own."""

    workspace: str
    task: str | None
    shown: Shown
    differences: list[Difference] | None = None

    @property
    def snapshot_id(self) -> str | None:
        return str(self.shown.row.pk) if self.shown.row else None

    @property
    def created_at(self) -> datetime | None:
        return self.shown.created_at


class StateFileShape(Shape[StateFile]):
    path = serializers.CharField()
    size_bytes = serializers.IntegerField(source="size")
    sha256 = serializers.CharField(source="digest")
    is_executable = serializers.BooleanField(source="is_program")


class DifferenceShape(Shape[Difference]):
    name = serializers.CharField(help_text="A key, or the path of a file")
    is_file = serializers.BooleanField()
    what = serializers.ChoiceField(["added", "changed", "removed"])
    before = serializers.JSONField(allow_null=True, help_text="Of a file: its SHA-256")
    after = serializers.JSONField(allow_null=True)


class StateShape(Shape[StateRow]):
    workspace = serializers.CharField()
    task = serializers.CharField(allow_null=True, help_text="Null: the workspace's own")
    version = serializers.IntegerField(source="shown.version", help_text="0: nothing is kept yet")
    snapshot_id = serializers.UUIDField(allow_null=True)
    values = serializers.JSONField(source="shown.values", help_text="Secrets are masked")
    files = StateFileShape(many=True, source="shown.files")
    size_bytes = serializers.IntegerField(source="shown.size_bytes")
    source = serializers.CharField(source="shown.row.source", allow_null=True)  # type: ignore[assignment]  # of DRF's fields, too
    job_id = serializers.UUIDField(source="shown.row.job_id", allow_null=True)
    step_name = TextOrNull(source="shown.row.step_name")
    by = TextOrNull(source="shown.row.by")
    created_at = serializers.DateTimeField(allow_null=True)
    differences = DifferenceShape(
        many=True, required=False, help_text="Since the version `against`, if that is asked for"
    )


class StateVersionShape(Shape[StateVersion]):
    version = serializers.IntegerField(source="number")
    snapshot_id = serializers.UUIDField(source="pk")
    base = serializers.IntegerField(allow_null=True, help_text="The version that its writer saw")
    written = serializers.ListField(child=serializers.CharField(), help_text="Keys")
    removed = serializers.ListField(child=serializers.CharField(), help_text="Keys")
    wrote_files = serializers.BooleanField()
    files = serializers.SerializerMethodField(help_text="How many files it has")
    size_bytes = serializers.SerializerMethodField()
    source = serializers.CharField()  # type: ignore[assignment]  # of DRF's fields, too
    job_id = serializers.UUIDField(allow_null=True)
    step_name = TextOrNull()
    by = TextOrNull()
    created_at = serializers.DateTimeField()

    def get_files(self, row: StateVersion) -> int:
        return row.files.count if row.files else 0

    def get_size_bytes(self, row: StateVersion) -> int:
        return row.files.size_bytes if row.files else 0


class StateVersionPage(Shape[Values]):
    items = StateVersionShape(many=True)
    total = serializers.IntegerField()


class UploadedShape(Shape[Values]):
    snapshot_id = serializers.UUIDField()
    job_id = serializers.UUIDField()
    version = serializers.IntegerField()


class ForgottenShape(Shape[Values]):
    removed_versions = serializers.IntegerField()
