"""Artifacts of pods: `Authorization: Bearer <pass>`, as for their workspace."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack
from typing import BinaryIO, cast

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from apps.api.views.archives import pass_of, refuse
from apps.artifacts.errors import ForeignStorage, StorageAway
from apps.artifacts.files import asking, leaving, parcels
from apps.artifacts.questions import MOST_BYTES, Answer, Away
from apps.jobs.door import liveness_of
from apps.jobs.pages.hub import off_loop, pieces_of
from apps.workspaces.passes import Pass
from engine.errors import AuthorError, Conflict

FILES, CODE = "X-Stroem-Files", "X-Stroem-Code"


@csrf_exempt
@require_http_methods(["GET", "PUT"])
async def parcel(request: HttpRequest) -> HttpResponseBase:
    """GET: a tar of what the step takes. PUT: one of what it leaves, with the number of its files.

    401: not a valid pass. 404: no such attempt. 410: its step has ended. 422: the files may not be
    kept, and the text says why.
    """
    granted, status = await _admit(request)
    if granted is None:
        return refuse(status)
    if request.method == "GET":
        answer = StreamingHttpResponse(pieces_of(parcels.given_out(granted.attempt_id)))
        answer.headers["Content-Type"] = "application/x-tar"
        answer.headers["Cache-Control"] = "no-store"
        return answer
    number = request.headers.get(FILES, "")
    if not (number.isascii() and number.isdigit() and len(number) < 10):
        return HttpResponse(f"the header {FILES} must hold the number of files", status=400)
    answered: HttpResponse = await off_loop(_take_in, granted, request, int(number))
    return answered


@require_http_methods(["GET"])
async def image_end(request: HttpRequest) -> HttpResponse:
    """The exit code of the step's image, 204 while it runs; otherwise as above."""
    granted, status = await _admit(request)
    if granted is None:
        return refuse(status)
    exit_code = await off_loop(leaving.end_of, granted.attempt_id)
    if exit_code is None:
        return HttpResponse(status=204)
    return HttpResponse(str(exit_code), content_type="text/plain")


@csrf_exempt
@require_http_methods(["POST"])
async def ask(request: HttpRequest) -> HttpResponseBase:
    """A question of `stroem-step`, and its answer as the command reads it: exit code and size, then
    the bytes. 503: it may be asked again; otherwise as above."""
    granted, status = await _admit(request)
    if granted is None:
        return refuse(status)
    try:
        found = await off_loop(_answer, granted, request)
    except (Away, StorageAway, OperationalError) as error:
        return _text(str(error), 503)
    answer = StreamingHttpResponse(pieces_of(_written(found)))
    answer.headers["Content-Type"] = "application/octet-stream"
    answer.headers["Cache-Control"] = "no-store"
    return answer


def _answer(granted: Pass, request: HttpRequest) -> Answer:
    return asking.answer(granted.attempt_id, request.read(MOST_BYTES + 1))


def _written(answer: Answer) -> Generator[bytes, None, None]:
    with ExitStack() as opened:
        if answer.stream is not None:
            opened.enter_context(answer.stream)
        yield answer.head + answer.text
        while answer.stream is not None and (piece := answer.stream.read(1 << 18)):
            yield piece


async def _admit(request: HttpRequest) -> tuple[Pass | None, int]:
    """What the request's pass grants; None with the status to refuse it with."""
    granted = pass_of(request)
    if granted is None:
        return None, 401
    found = await off_loop(liveness_of, granted.attempt_id, granted.fence)
    if found is None or found.digest != granted.digest:
        return None, 404
    return (granted, 200) if found.is_alive else (None, 410)


def _take_in(granted: Pass, request: HttpRequest, files: int) -> HttpResponse:
    stream = cast(BinaryIO, request)  # Django has put the body into a file
    try:
        has_failed = request.headers.get(CODE, "0") != "0"
        said = parcels.take_in(
            granted.attempt_id, granted.fence, stream, files, has_failed=has_failed
        )
    except AuthorError as error:
        return _text(str(error), 422)
    except Conflict as error:
        return _text(str(error), 410)
    except (StorageAway, ForeignStorage, OperationalError) as error:
        return _text(str(error), 503)
    return _text(said, 200)


def _text(said: str, status: int) -> HttpResponse:
    return HttpResponse(f"{said}\n", status=status, content_type="text/plain; charset=utf-8")
