"""Connections of a workspace: names and types. Their values may be secret and are never shown."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import scope
from apps.api.shapes.base import ErrorShape, answer_list
from apps.api.shapes.workspaces import ConnectionShape
from apps.api.views.base import ApiView
from apps.workspaces.snapshots import definition_of


class ConnectionsView(ApiView):
    @extend_schema(responses={200: ConnectionShape(many=True), 404: ErrorShape})
    def get(self, request: Request, workspace: str) -> Response:
        row = scope.workspace(request.user, workspace)
        found = definition_of(row.current_id).connections if row.current_id else {}
        return answer_list(
            ConnectionShape,
            [{"name": name, "type": values.get("type")} for name, values in sorted(found.items())],
        )
