"""What tasks and workspaces remember: the newest version, older ones, uploads."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apps.accounts.models import signed_in
from apps.api import scope
from apps.api.errors import RETRY_SOON, told
from apps.api.paging import window
from apps.api.shapes.base import ErrorShape, answer
from apps.api.shapes.states import (
    ForgottenShape,
    StateRow,
    StateShape,
    StateVersionPage,
    UploadedShape,
)
from apps.api.views.base import PAGE, ApiView, refuse_nul
from apps.artifacts.models import State
from apps.artifacts.state import history, uploads
from apps.workspaces.models import Workspace
from apps.workspaces.revisions import definition_of
from apps.workspaces.rights import REFUSALS
from engine.archives import Readable
from engine.errors import NotFound, PlatformError
from engine.rights import Right

NO_GLOBAL = "Admin privileges required for global-state upload"
NO_GLOBAL_STATE = (
    "The workspace's own state is for those who may see the inputs of the whole workspace"
)
MOST_VALUES = 1000
ARCHIVE = (200, "application/gzip")
_PAGE = [OpenApiParameter("limit", int), OpenApiParameter("offset", int)]


class Owner(NamedTuple):
    """The workspace and the task of an address; the task is empty for the workspace's own."""

    workspace: Workspace
    task: str
    state: State | None

    def row(self, shown: history.Shown, differences: Any = None) -> StateRow:
        return StateRow(self.workspace.name, self.task or None, shown, differences)


class ArchiveParser(BaseParser):
    """Hands over the body as a stream."""

    media_type = "*/*"

    def parse(
        self,
        stream: Any,
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        return stream


def _owner(request: Request, workspace: str, task: str, needed: Right = Right.INPUTS) -> Owner:
    """Raises NotFound, PermissionDenied."""
    if task:
        row = scope.task(request.user, workspace, task, needed, refusal=REFUSALS.get(needed, ""))
    else:
        refusal = NO_GLOBAL_STATE if needed is Right.INPUTS else NO_GLOBAL
        row = scope.workspace(request.user, workspace, needed, refusal=refusal)
    state = history.find(row.pk, task)
    if task and state is None:
        known = definition_of(row.current_id).tasks if row.current_id else {}
        if task not in known:
            raise NotFound("Task not found")
    return Owner(row, task, state)


def _number(text: str, name: str = "version") -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ParseError(f"{name} must be the number of a version")
    return int(text)


def _writer(task: str) -> Right:
    return Right.RUN if task else Right.MANAGE


class StateView(ApiView):
    """The newest version. A task keeps its state when it leaves the workspace's files."""

    parser_classes = [ArchiveParser]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        if request.method == "POST":  # its query parameters are values
            APIView.initial(self, request, *args, **kwargs)
            refuse_nul(kwargs)
        else:
            super().initial(request, *args, **kwargs)

    @extend_schema(responses={200: StateShape, 404: ErrorShape})
    def get(self, request: Request, workspace: str, task: str = "") -> Response:
        owner = _owner(request, workspace, task)
        return answer(StateShape, owner.row(history.newest(owner.state)))

    @extend_schema(
        request={"application/gzip": OpenApiTypes.BINARY},
        parameters=[
            OpenApiParameter(
                "mode", str, enum=uploads.MODES, description="`replace` if it is left out"
            )
        ],
        responses={201: UploadedShape, 400: ErrorShape, 404: ErrorShape, 413: ErrorShape},
    )
    def post(self, request: Request, workspace: str, task: str = "") -> Response:
        """Store a tar.gz, which may be empty, as the next version. Every other query parameter
        becomes a text in `state.json`."""
        owner = _owner(request, workspace, task, _writer(task))
        given = {key: str(value) for key, value in request.query_params.items()}
        mode = given.pop("mode", uploads.MODES[0])
        if len(given) > MOST_VALUES or any("\x00" in f"{key}{given[key]}" for key in given):
            raise ParseError(f"send at most {MOST_VALUES} values, without the character NUL")
        try:
            version, job_id = uploads.upload(
                owner.workspace,
                task,
                _body(request),
                mode=mode,
                values=given,
                by=signed_in(request.user),
            )
        except PlatformError as error:
            return _away(error)
        said = {"snapshot_id": version.pk, "job_id": job_id, "version": version.number}
        made = answer(UploadedShape, said)
        made.status_code = 201
        return made

    @extend_schema(responses={200: ForgottenShape, 404: ErrorShape})
    def delete(self, request: Request, workspace: str, task: str = "") -> Response:
        """Remove values, files and all versions, for good."""
        owner = _owner(request, workspace, task, Right.MANAGE)
        count = 0
        if owner.state:
            by = signed_in(request.user).email
            count = history.forget(owner.workspace.pk, task, by=by)
        return answer(ForgottenShape, {"removed_versions": count})


class StateHistoryView(ApiView):
    query = PAGE

    @extend_schema(parameters=_PAGE, responses={200: StateVersionPage, 404: ErrorShape})
    def get(self, request: Request, workspace: str, task: str = "") -> Response:
        rows = history.versions(_owner(request, workspace, task).state)
        said = {"items": list(rows[window(request)]), "total": rows.count()}
        return answer(StateVersionPage, said)


class StateVersionView(ApiView):
    """One version; with `against`, also how it differs from another one."""

    query = {"against": "the number of a version"}

    @extend_schema(
        parameters=[OpenApiParameter("against", int, description="0: from nothing")],
        responses={200: StateShape, 400: ErrorShape, 404: ErrorShape},
    )
    def get(self, request: Request, workspace: str, version: str, task: str = "") -> Response:
        owner = _owner(request, workspace, task)
        number, against = _number(version), request.query_params.get("against")
        shown = history.version(owner.state, number)
        differences = None
        if against is not None:
            differences = history.compare(owner.state, _number(against, "against"), number)
        return answer(StateShape, owner.row(shown, differences))


class RestoreView(ApiView):
    """Make an older version the newest again, as a version of its own."""

    @extend_schema(request=None, responses={200: StateShape, 404: ErrorShape})
    def post(self, request: Request, workspace: str, version: str, task: str = "") -> Response:
        owner = _owner(request, workspace, task, _writer(task))
        by = signed_in(request.user).email
        number = _number(version)
        if owner.state is None:
            raise NotFound(f"Version {number} of this state is not kept")
        history.restore(owner.workspace.pk, task, number, by=by)
        found = history.newest(history.find(owner.workspace.pk, task))
        return answer(StateShape, owner.row(found))


class StateArchiveView(ApiView):
    """A version as tar.gz: its files, and its values as `state.json`, with secrets masked."""

    query = {"version": "the number of a version"}

    @extend_schema(
        parameters=[OpenApiParameter("version", int, description="The newest if it is left out")],
        responses={ARCHIVE: OpenApiTypes.BINARY, 400: ErrorShape, 404: ErrorShape},
    )
    def get(self, request: Request, workspace: str, task: str = "") -> HttpResponse:
        owner = _owner(request, workspace, task)
        text = request.query_params.get("version")
        number = None if text is None else _number(text)
        shown = (
            history.newest(owner.state) if number is None else history.version(owner.state, number)
        )
        with tempfile.TemporaryFile() as packed:
            try:
                history.pack(shown, packed)
            except PlatformError as error:
                return _away(error)
            packed.seek(0)
            found = HttpResponse(packed.read(), content_type="application/gzip")
        name = f"state-{shown.version}.tar.gz"
        found.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        found.headers["Cache-Control"] = "private, no-store"
        return found


def _body(request: Request) -> Readable:
    body: Any = request.data  # without a body, DRF asks no parser
    return body if hasattr(body, "read") else tempfile.TemporaryFile()


def _away(error: PlatformError) -> Response:
    return Response(told(503, str(error)), 503, headers=RETRY_SOON)
