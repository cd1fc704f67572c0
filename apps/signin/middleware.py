"""Ends sessions that no longer hold where they began."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import render

from apps.adminkit.policy import Middleware
from apps.signin.entrance import ENDED, SIGN_ON

RETRY_S = 5
SILENT = "The identity provider that you signed in with does not answer; try again"


class SignOnsHold(Middleware):
    """Only for sessions that began at a provider; costs others nothing."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        has_session = settings.SESSION_COOKIE_NAME in request.COOKIES
        return (_apart(request) if has_session else None) or super().__call__(request)


def stream_holds(session: SessionBase) -> bool:
    """Of a stream, which asks for itself: it makes no requests that would."""
    pk = session.get(SIGN_ON)
    if pk is None:
        return True
    from apps.signin.checks import STREAMS_ASK_EVERY, Standing, standing

    user_id = int(session.get(SESSION_KEY, 0))
    return standing(pk, user_id, ask_every=STREAMS_ASK_EVERY) is Standing.GOOD


def _apart(request: HttpRequest) -> HttpResponse | None:
    """For streams: none of them may hold a connection."""
    try:
        return _refusal(request)
    finally:
        if not connection.in_atomic_block:
            connection.close()


def _refusal(request: HttpRequest) -> HttpResponse | None:
    """Before anybody asks who this is: a session that is over is then nobody's."""
    pk = request.session.get(SIGN_ON)
    if pk is None:
        return None
    from apps.signin.checks import Standing, standing

    match standing(pk, int(request.session.get(SESSION_KEY, 0))):
        case Standing.GOOD:
            return None
        case Standing.OVER:
            request.session.flush()
            request.session[ENDED] = True
            return None
        case Standing.UNKNOWN:
            return _unknown(request)


def _unknown(request: HttpRequest) -> HttpResponse:
    answer: HttpResponse
    if request.path.startswith("/api"):
        told = {"error": SILENT, "code": "unavailable"}
        answer = JsonResponse(told, status=503)
    else:
        answer = render(request, "signin/silent.html", {"said": SILENT}, status=503)
    answer["Retry-After"] = str(RETRY_S)
    return answer
