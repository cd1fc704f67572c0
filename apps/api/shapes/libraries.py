"""Libraries as the API shows them."""

from __future__ import annotations

from rest_framework import serializers

from apps.api.shapes.base import Shape
from apps.workspaces.libraries.listing import Listed


class LibraryShape(Shape[Listed]):
    name = serializers.CharField(source="row.name")
    workspace = serializers.CharField(source="row.workspace.name")
    address = serializers.CharField(source="row.address")
    ref = serializers.CharField(source="row.ref")
    commit = serializers.CharField(source="row.commit", help_text="Empty for a folder")
    tree = serializers.CharField(source="row.tree", help_text="SHA-256 over its files")
    is_locked = serializers.BooleanField(
        source="row.is_locked", help_text="Pinned by a lock file in the workspace's files"
    )
    pinned_at = serializers.DateTimeField(source="row.pinned_at")
    pinned_by = serializers.CharField(source="row.pinned_by")
    used_by = serializers.ListField(child=serializers.CharField())
