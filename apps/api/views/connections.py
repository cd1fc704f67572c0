"""Connections of a workspace: what there is, who uses it, its check; values are only written."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import signed_in
from apps.api import scope
from apps.api.shapes.base import ErrorShape, answer, answer_list, checked
from apps.api.shapes.connections import (
    CheckedShape,
    ConnectionChange,
    ConnectionDetailShape,
    ConnectionRequest,
    ConnectionRow,
    ConnectionShape,
    ConnectionTypeShape,
    RemovedConnectionShape,
    StoredShape,
    TypeRow,
)
from apps.api.views.base import ApiView
from apps.connections import checks
from apps.jobs import veils
from apps.workspaces import connections
from apps.workspaces.models import Workspace
from apps.workspaces.revisions import definition_of
from apps.workspaces.rights import insist, sight_of
from engine.errors import NotFound
from engine.rights import Right
from engine.spec.connection_types import uses_of
from engine.spec.model import Workspace as Definition

CHECK_REFUSED = "Checking a connection takes the right 'run' on every task of the workspace"
_WRITTEN = {200: StoredShape, 400: ErrorShape, 403: ErrorShape, 404: ErrorShape, 409: ErrorShape}


class ConnectionsView(ApiView):
    @extend_schema(responses={200: ConnectionShape(many=True), 403: ErrorShape, 404: ErrorShape})
    def get(self, request: Request, workspace: str) -> Response:
        row = scope.whole(request.user, workspace)
        definition = _definition(row)
        return answer_list(ConnectionShape, _rows(request, row, definition))


class ConnectionTypesView(ApiView):
    """The types that the files declare, with the properties of their connections."""

    @extend_schema(
        responses={200: ConnectionTypeShape(many=True), 403: ErrorShape, 404: ErrorShape}
    )
    def get(self, request: Request, workspace: str) -> Response:
        row = scope.whole(request.user, workspace)
        definition = _definition(row)
        kinds = connections.kinds_in(row.pk, definition)
        names = {
            kind: sorted(name for name, has in kinds.items() if has == kind)
            for kind in sorted(definition.connection_types)
        }
        rows = [TypeRow(kind, definition, found) for kind, found in names.items()]
        return answer_list(ConnectionTypeShape, rows)


class ConnectionView(ApiView):
    """One connection. What is stored in the database overrides one of the files by name."""

    @extend_schema(responses={200: ConnectionDetailShape, 403: ErrorShape, 404: ErrorShape})
    def get(self, request: Request, workspace: str, name: str) -> Response:
        row = scope.whole(request.user, workspace)
        shows = Right.SECRETS in sight_of(request.user).on(workspace)
        for found in _rows(request, row, _definition(row), shows=shows):
            if found.one.name == name:
                return answer(ConnectionDetailShape, found)
        raise NotFound("Connection not found")

    @extend_schema(request=ConnectionRequest, responses=_WRITTEN)
    def put(self, request: Request, workspace: str, name: str) -> Response:
        """Store all of its values. A value sent as the mask stays what it was."""
        row = scope.whole(request.user, workspace, Right.SECRETS)
        given = checked(ConnectionRequest, request)
        return _store(request, row, name, given["type"], given, adds=False)

    @extend_schema(request=ConnectionChange, responses=_WRITTEN)
    def patch(self, request: Request, workspace: str, name: str) -> Response:
        """Store some of its values, such as a new password; the others stay."""
        row = scope.whole(request.user, workspace, Right.SECRETS)
        given = checked(ConnectionChange, request)
        return _store(request, row, name, connections.kind_of(row, name), given, adds=True)

    @extend_schema(responses={200: RemovedConnectionShape, 403: ErrorShape, 404: ErrorShape})
    def delete(self, request: Request, workspace: str, name: str) -> Response:
        row = scope.whole(request.user, workspace, Right.SECRETS)
        is_in_files = connections.remove(row, name)
        return answer(RemovedConnectionShape, {"name": name, "is_in_files": is_in_files})


class CheckView(ApiView):
    """Starts a job that runs the `check` of the connection's type; it must complete."""

    @extend_schema(
        request=None,
        responses={200: CheckedShape, 403: ErrorShape, 404: ErrorShape, 409: ErrorShape},
    )
    def post(self, request: Request, workspace: str, name: str) -> Response:
        row = scope.whole(request.user, workspace)
        held = sight_of(request.user).on(workspace, checks.task_of(name))
        insist(held, Right.RUN, CHECK_REFUSED)
        job = checks.start(row, name, signed_in(request.user))
        return answer(CheckedShape, {"job_id": job.pk})


def _definition(row: Workspace) -> Definition:
    return definition_of(row.current_id) if row.current_id else Definition()


def _rows(
    request: Request, row: Workspace, definition: Definition, *, shows: bool = False
) -> list[ConnectionRow]:
    uses, last = uses_of(definition), checks.last_checks([row])
    for job in last.values():
        veils.job(job, sight_of(request.user).on(row.name, job.task_name))
    return [
        ConnectionRow(
            one,
            definition,
            uses.get(one.name, ()),
            definition.connection_checks.get(one.type or ""),
            last.get((row.pk, one.name)),
            shows,
        )
        for one in connections.connections_in(row, definition).values()
    ]


def _store(
    request: Request, row: Workspace, name: str, kind: str, given: dict[str, Any], *, adds: bool
) -> Response:
    made = connections.store(
        row,
        name,
        kind,
        given["values"],
        by=signed_in(request.user).email,
        version=given.get("version"),
        adds=adds,
    )
    overrides = name in _definition(row).connections
    return answer(StoredShape, {"name": name, "version": made.version, "overrides": overrides})
