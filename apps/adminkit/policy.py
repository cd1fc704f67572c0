"""The content security policy of all pages: only our own files run, no inline scripts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

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


class PagePolicy:
    """Adds the policy to every response without one."""

    sync_capable = async_capable = True

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]
    ) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._later(request)
        answer = self.get_response(request)
        assert isinstance(answer, HttpResponseBase)
        return _guarded(answer)

    async def _later(self, request: HttpRequest) -> HttpResponseBase:
        answer = self.get_response(request)
        assert not isinstance(answer, HttpResponseBase)
        return _guarded(await answer)


def _guarded(answer: HttpResponseBase) -> HttpResponseBase:
    answer.headers.setdefault(HEADER, POLICY)
    return answer
