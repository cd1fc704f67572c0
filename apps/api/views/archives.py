"""The files of a pinned revision, for pods: `Authorization: Bearer <pass>`. No session, user or API
key."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from weakref import WeakValueDictionary

from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.http import require_safe

from apps.api.errors import told
from apps.jobs.door import liveness_of
from apps.jobs.pages.hub import off_loop
from apps.workspaces import passes
from apps.workspaces.ledger import archive
from engine.errors import NotFound

PIECE_BYTES = 1 << 16
REFUSALS = {
    401: "This address requires the pass of a running step",
    404: "The pass is not for this workspace and revision",
    410: "The step that this pass was issued for has ended",
}


@dataclass(slots=True, weakref_slot=True)
class Opened:
    """The bytes of one archive, shared by pods that read it at once."""

    data: bytes


_opened: WeakValueDictionary[int, Opened] = WeakValueDictionary()
_opening = threading.Lock()


@require_safe
async def pinned_archive(request: HttpRequest, workspace: str) -> HttpResponseBase:
    """The tar.gz of the revision with the digest `?revision=`.

    401: not a valid pass. 404: the pass is for something else, or the revision is gone. 410: its
    step has ended.
    """
    granted = pass_of(request)
    if granted is None:
        return refuse(401)
    found = await off_loop(liveness_of, granted.attempt_id, granted.fence)
    if found is None or (found.digest, found.workspace) != (granted.digest, workspace):
        return refuse(404)
    if request.GET.get("revision") != granted.digest:
        return refuse(404)
    if not found.is_alive:
        return refuse(410)
    tag = f'"{granted.digest}"'
    if tag in request.headers.get("If-None-Match", ""):
        return _with_headers(HttpResponse(status=304), tag)
    try:
        opened = await off_loop(_open, found.revision_id)
    except NotFound:
        return refuse(404)
    stream = StreamingHttpResponse(_pieces(opened), content_type="application/gzip")
    stream.headers["Content-Length"] = str(len(opened.data))
    return _with_headers(stream, tag)


def pass_of(request: HttpRequest) -> passes.Pass | None:
    scheme, _, text = request.headers.get("Authorization", "").partition(" ")
    return passes.read(text.strip()) if scheme.lower() == "bearer" else None


def _open(revision_id: int) -> Opened:
    # one at a time: an archive may be large, and the next reader usually wants the same one
    with _opening:
        found = _opened.get(revision_id)
        if found is None:
            found = _opened[revision_id] = Opened(archive(revision_id))
        return found


async def _pieces(opened: Opened) -> AsyncIterator[bytes]:
    view = memoryview(opened.data)
    for start in range(0, len(view), PIECE_BYTES):
        yield bytes(view[start : start + PIECE_BYTES])


def _with_headers(answer: HttpResponseBase, tag: str) -> HttpResponseBase:
    answer.headers["ETag"] = tag
    answer.headers["Cache-Control"] = "private, no-store"
    answer.headers["X-Accel-Buffering"] = "no"
    return answer


def refuse(status: int) -> JsonResponse:
    answer = JsonResponse(told(status, REFUSALS[status]), status=status)
    if status == 401:
        answer.headers["WWW-Authenticate"] = "Bearer"
    return answer
