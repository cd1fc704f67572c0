"""The addresses of OAuth: whether they are there, and how often one caller may use them."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from apps.accounts.errors import TooMany
from apps.accounts.throttles import address_range, spend, throttle_key
from apps.api.oauth import offer

REGISTRATIONS, IN_REGISTRATIONS_S = 20, 3600
MOST_REGISTRATIONS = 300  # of all callers together
EXCHANGES, IN_EXCHANGES_S = 60, 60

View = Callable[[HttpRequest], HttpResponse]


def offered(view: View) -> View:
    """Not there unless the settings enable it."""

    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        if not offer.is_offered():
            raise Http404
        return view(request)

    return guarded


def plain(view: View) -> View:
    """No text of a form holds NUL, which no column can."""

    @wraps(view)
    def guarded(request: HttpRequest) -> HttpResponse:
        if any("\x00" in text for _, texts in request.POST.lists() for text in texts):
            return _refused(400, "invalid_request", "A parameter holds the character NUL")
        return view(request)

    return guarded


@require_GET
@offered
def resource_metadata(request: HttpRequest) -> HttpResponse:
    return JsonResponse(offer.of_resource())


@require_GET
@offered
def server_metadata(request: HttpRequest) -> HttpResponse:
    return JsonResponse(offer.of_server())


@csrf_exempt
@require_POST
@offered
def register(request: HttpRequest) -> HttpResponse:
    from apps.api.oauth import provider

    try:
        spend(_key("register", request), limit=REGISTRATIONS, window_s=IN_REGISTRATIONS_S)
        spend("oauth-register", limit=MOST_REGISTRATIONS, window_s=IN_REGISTRATIONS_S)
    except TooMany as error:
        return _too_many(error)
    answer: HttpResponse = provider.register(request)
    return answer


@csrf_exempt  # the library looks at the token of its form itself
@require_http_methods(["GET", "POST"])
@offered
@plain
def authorize(request: HttpRequest) -> HttpResponse:
    from apps.api.oauth import provider

    answer: HttpResponse = provider.authorize(request)
    return answer


@csrf_exempt
@require_POST
@offered
@plain
def token(request: HttpRequest) -> HttpResponse:
    from apps.api.oauth import provider

    try:
        spend(_key("token", request), limit=EXCHANGES, window_s=IN_EXCHANGES_S)
    except TooMany as error:
        return _too_many(error)
    return provider.exchange(request)


def _key(what: str, request: HttpRequest) -> str:
    return throttle_key(f"oauth-{what}", address_range(request.META.get("REMOTE_ADDR", "")))


def _too_many(error: TooMany) -> HttpResponse:
    answer = _refused(429, "temporarily_unavailable", str(error))
    answer["Retry-After"] = str(error.retry_after_s)
    return answer


def _refused(status: int, error: str, sentence: str) -> HttpResponse:
    return JsonResponse({"error": error, "error_description": sentence}, status=status)
