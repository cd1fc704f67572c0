"""Files that a job's steps have left: list, one of them or a range of it, all as one zip."""

from __future__ import annotations

from collections.abc import Generator

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apps.api import scope
from apps.api.parsers import TRUE_OR_FALSE, is_true
from apps.api.shapes.artifacts import ArtifactShape
from apps.api.shapes.base import ErrorShape
from apps.api.views.base import ApiView
from apps.artifacts import blobs
from apps.artifacts.files import serving, shelf
from apps.jobs.pages.hub import pieces_of
from engine.errors import NotFound
from engine.rights import Right

_BYTES = {(200, "*/*"): OpenApiTypes.BINARY, (206, "*/*"): OpenApiTypes.BINARY}
_ZIP = {(200, "application/zip"): OpenApiTypes.BINARY}


class ArtifactsView(ApiView):
    @extend_schema(responses={200: ArtifactShape(many=True), 404: ErrorShape})
    def get(self, request: Request, job: str) -> Response:
        row = scope.job(request.user, job, Right.INPUTS)
        found = list(shelf.of_job(row.pk).select_related("blob"))
        shape = ArtifactShape(context={"ambiguous": shelf.ambiguous(found)})
        return Response([shape.to_representation(one) for one in found])


class ArtifactView(ApiView):
    """The bytes of one artifact. A `/` in its name is sent as `%2F`. If several steps have left one
    of this name, the newest, or that of `step`. `preview=true` serves HTML, SVG and PDF for a
    frame, where nothing in them can run."""

    query = {"step": "the name of a step", "preview": TRUE_OR_FALSE}

    @extend_schema(
        parameters=[
            OpenApiParameter("step", str),
            OpenApiParameter("preview", bool),
            OpenApiParameter("Range", str, OpenApiParameter.HEADER),
            OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER),
        ],
        responses={
            **_BYTES,
            304: OpenApiResponse(description="Nothing has changed"),
            404: ErrorShape,
            416: OpenApiResponse(description="The file has no such bytes"),
        },
    )
    def get(self, request: Request, job: str, name: str) -> HttpResponseBase:
        row = scope.job(request.user, job, Right.INPUTS)
        found = shelf.find(row.pk, name, request.query_params.get("step") or None)
        if found is None:
            raise NotFound("Artifact not found")
        said = serving.headers(found, is_preview=is_true(request, "preview", usual=False))
        if serving.tag_of(found) in request.headers.get("If-None-Match", ""):
            return HttpResponse(status=304, headers=said)
        asked, if_range = request.headers.get("Range", ""), request.headers.get("If-Range", "")
        part = serving.part_of(found, asked, if_range)
        if part.is_range and not part.length:
            said = {"Content-Range": f"bytes */{found.size_bytes}"}
            return HttpResponse(status=416, headers=said)
        said["Content-Length"] = str(part.length)
        if part.is_range:
            last = part.start + part.length - 1
            said["Content-Range"] = f"bytes {part.start}-{last}/{found.size_bytes}"
        status = 206 if part.is_range else 200
        if request.method == "HEAD":
            return HttpResponse(status=status, headers=said)
        return _streamed(blobs.pieces(found.blob, part.start, part.length), status, said)


class ArtifactsZipView(ApiView):
    """All artifacts of the job as one zip, a directory for each step."""

    @extend_schema(responses={**_ZIP, 404: ErrorShape})
    def get(self, request: Request, job: str) -> HttpResponseBase:
        row = scope.job(request.user, job, Right.INPUTS)
        found = list(shelf.of_job(row.pk).select_related("blob"))
        if not found:
            raise NotFound("The job has no artifacts")
        said = {
            "Content-Type": "application/zip",
            "Content-Disposition": f'attachment; filename="artifacts-{row.pk}.zip"',
            "Cache-Control": serving.CACHE,
        }
        if request.method == "HEAD":
            return HttpResponse(headers=said)
        return _streamed(serving.zipped(found), 200, said)


def _streamed(
    pieces: Generator[bytes, None, None], status: int, headers: dict[str, str]
) -> HttpResponseBase:
    headers["X-Accel-Buffering"] = "no"
    return StreamingHttpResponse(pieces_of(pieces), status=status, headers=headers)
