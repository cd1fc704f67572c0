"""The libraries of a workspace, and moving their pins."""

from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.models import signed_in
from apps.api import scope
from apps.api.errors import RETRY_SOON, told
from apps.api.shapes.base import ErrorShape, answer, answer_list
from apps.api.shapes.libraries import LibraryShape
from apps.api.views.base import ApiView
from apps.workspaces.libraries import listing
from apps.workspaces.models import Workspace
from engine.errors import NotFound, PlatformError
from engine.rights import Right


class LibrariesView(ApiView):
    @extend_schema(responses=LibraryShape(many=True))
    def get(self, request: Request, workspace: str) -> Response:
        row = scope.whole(request.user, workspace)
        return answer_list(LibraryShape, listing.listed(Workspace.objects.filter(pk=row.pk)))


class RefreshLibraryView(ApiView):
    """Moves the pin to what is the newest now. 409: a lock file in the workspace's files pins it,
    or the workspace is being read just now."""

    @extend_schema(
        request=None,
        responses={
            200: LibraryShape,
            400: ErrorShape,
            404: ErrorShape,
            409: ErrorShape,
            429: ErrorShape,
            503: ErrorShape,
        },
    )
    def post(self, request: Request, workspace: str, name: str) -> Response:
        row = scope.whole(request.user, workspace, Right.MANAGE)
        try:
            fresh = listing.refresh(row, [name], signed_in(request.user).email)
        except PlatformError as error:
            return Response(told(503, str(error)), 503, headers=RETRY_SOON)
        if fresh.has_failed:
            why = [one["text"] for one in fresh.problems if one["severity"] == "error"]
            return Response(told(400, "\n".join(why)), 400)
        found = listing.listed(Workspace.objects.filter(pk=row.pk))
        fitting = [one for one in found if one.row.name == name]
        if not fitting:
            raise NotFound(f"The files of workspace '{workspace}' no longer name library '{name}'")
        return answer(LibraryShape, fitting[0])
