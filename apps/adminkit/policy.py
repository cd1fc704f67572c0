"""What holds for every request: an address without NUL, which PostgreSQL cannot store or look for,
and the content security policy of all pages: only our own files run, no inline scripts; nothing is
kept by caches, and where the server is reached by https, nobody comes by http again; and which
request is being answered."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

from django.conf import settings
from django.core.exceptions import BadRequest
from django.http import Http404, HttpRequest, HttpResponseBase

# Inline styles only: the theme writes its palette into the page.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADER = "Content-Security-Policy"
HTTPS_ONLY = "max-age=31536000"  # a year


class Middleware:
    """Something around every answer; classes put it around `__call__`. Never a coroutine: in a
    chain of both kinds, each of Django's own goes to another thread and back, twice."""

    sync_capable, async_capable = True, False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self._get_response(request)


class PagePolicy(Middleware):
    """Adds the policy to every response without one."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return _guarded(super().__call__(request))


def _guarded(answer: HttpResponseBase) -> HttpResponseBase:
    answer.headers.setdefault(HEADER, POLICY)
    answer.headers.setdefault("Cache-Control", "no-store")  # files of ours say how long they last
    if settings.IS_HTTPS:
        answer.headers.setdefault("Strict-Transport-Security", HTTPS_ONLY)
    return answer


current_request: ContextVar[HttpRequest | None] = ContextVar("request", default=None)


class CurrentRequest(Middleware):
    """What is done for a request can find out which one: the audit log says who caused it."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        before = current_request.set(request)
        try:
            return super().__call__(request)
        finally:
            current_request.reset(before)


NUL = "The address contains the character NUL, which no name or text has"


class PlainAddresses(Middleware):
    """A path with NUL is not found, a query with one is refused: no view has to think of it. The
    API's own views say what a name in a path must look like."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        _check(request)
        return super().__call__(request)


def _check(request: HttpRequest) -> None:
    if "\x00" in request.path and not request.path.startswith("/api/"):
        raise Http404
    if any("\x00" in text for name, texts in request.GET.lists() for text in (name, *texts)):
        raise BadRequest(NUL)
