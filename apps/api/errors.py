"""The one place that turns errors into answers: a status code and `{"error": sentence, "code":
word}`, for wrong input also `fields`."""

from __future__ import annotations

import logging
import sys
from typing import Any

from django.core.exceptions import BadRequest, PermissionDenied, RequestDataTooBig
from django.db import OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views import defaults
from rest_framework import exceptions
from rest_framework.response import Response

from apps.accounts.errors import SignInAgain, SignInRefused, TokenRefused, TooMany
from apps.approvals.errors import NotAllowed
from apps.artifacts.errors import ForeignStorage, StorageAway
from apps.jobs.log.archive import LogsAway
from apps.signin.errors import SecondFactorNeeded
from engine.errors import AuthorError, Conflict, InputError, NotFound, StroemError

logger = logging.getLogger(__name__)
BROKEN = "Internal server error"
BUSY = "The database is not available or took too long; try again in a moment"
RETRY_SOON = {"Retry-After": "5"}
CODES = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    409: "conflict",
    410: "gone",
    413: "too_large",
    415: "unsupported_media_type",
    429: "too_many_requests",
    500: "server_error",
    503: "unavailable",
}
SECOND_FACTOR = "second_factor_needed"  # a 401 after a right password
SIGN_IN_AGAIN = "sign_in_again"  # a 403 for who signed in too long ago
INVALID = "invalid_input"  # a 400 whose `fields` say what is wrong
_TEXTS = {exceptions.NotAuthenticated: "Authentication required", exceptions.NotFound: "Not found"}
_STATUSES: tuple[tuple[type[StroemError], int], ...] = (
    (SignInRefused, 401),
    (TokenRefused, 401),
    (NotAllowed, 403),
    (NotFound, 404),
    (StorageAway, 503),
    (ForeignStorage, 503),
    (LogsAway, 503),
    (AuthorError, 400),
    (Conflict, 409),
)


class TooLarge(exceptions.APIException):
    status_code = 413
    default_detail = "The request body is larger than 1 MB"


def handle(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler. None leaves the answer to `server_error`, and the log to Django."""
    match error:
        case TooMany():
            body = told(429, str(error)) | {"retry_after_secs": error.retry_after_s}
            return Response(body, 429, headers={"Retry-After": str(error.retry_after_s)})
        case InputError():
            return Response({"error": str(error), "code": INVALID, "fields": error.problems}, 400)
        case StroemError():
            return _ours(error)
        case Http404():
            return Response(told(404, str(error) or "Not found"), 404)
        case PermissionDenied():
            return Response(told(403, str(error) or "Permission denied"), 403)
        case RequestDataTooBig():
            return Response(told(413, TooLarge.default_detail), 413)
        case exceptions.APIException():
            return _drf(error, context.get("view"))
        case OperationalError():
            return Response(told(503, BUSY), 503, headers=RETRY_SOON)
    return None


def told(status: int, sentence: str) -> dict[str, Any]:
    """The body of an error. Programs branch on `code`; its sentence may change."""
    return {"error": sentence, "code": CODES[status]}


def _ours(error: StroemError) -> Response | None:
    if isinstance(error, SecondFactorNeeded):
        return Response({"error": str(error), "code": SECOND_FACTOR}, 401)
    if isinstance(error, SignInAgain):
        return Response({"error": str(error), "code": SIGN_IN_AGAIN}, 403)
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return Response(told(status, str(error)), status)
    return None


def _drf(error: exceptions.APIException, view: Any) -> Response:
    challenge = getattr(error, "auth_header", None)  # set by the view if nobody is signed in
    headers = {"WWW-Authenticate": challenge} if challenge else {}
    text = _TEXTS.get(type(error)) if type(error) in _TEXTS and _is_default(error) else None
    if isinstance(error, exceptions.MethodNotAllowed):
        methods = [name for name in getattr(view, "allowed_methods", ()) if name != "OPTIONS"]
        text = f"{str(error.detail).rstrip('.')}; use {' or '.join(methods)}"
    elif isinstance(error, exceptions.UnsupportedMediaType):
        text = f"{str(error.detail).rstrip('.')}; send application/json"
    body = told(error.status_code, text or _sentence(error.detail))
    if isinstance(error, exceptions.ValidationError) and (fields := _fields(error.detail)):
        body |= {"code": INVALID, "fields": fields}
    return Response(body, error.status_code, headers=headers)


def _fields(detail: Any) -> dict[str, str]:
    """One sentence for each field of the body that is wrong."""
    if not isinstance(detail, dict):
        return {}
    return {
        str(name): _sentence(said) for name, said in detail.items() if name != "non_field_errors"
    }


def _is_default(error: exceptions.APIException) -> bool:
    return str(error.detail) == str(error.default_detail)


_WORDS = {  # DRF's, and ours, which say what to send
    "This field is required": "is required",
    "This field may not be null": "must not be null",
    "This field may not be blank": "must not be empty",
    "Must be a valid boolean": "must be true or false",
    "Not a valid string": "must be a text",
    "A valid integer is required": "must be a whole number",
    "Expected a dictionary of items": 'must be an object, such as {"name": "value"}',
    "Expected a list of items": "must be a list",
}


def _sentence(detail: Any, name: str = "") -> str:
    """One line from DRF's nested errors: `name is required`."""
    if isinstance(detail, dict):
        return "; ".join(_sentence(inner, _place(name, key)) for key, inner in detail.items())
    if isinstance(detail, list):
        return "; ".join(_sentence(inner, name) for inner in detail)
    text = str(detail)
    if text.startswith("Invalid data. Expected a dictionary"):
        return f"{name or 'the body'} must be an object"
    if not name or text.lower().startswith(name):
        return text
    said = next((ours for theirs, ours in _WORDS.items() if text.startswith(theirs)), "")
    return f"{name} {said}" if said else f"{name}: {text}"


def _place(name: str, key: Any) -> str:
    """Where in the body: `scopes[1]`, `values.port`."""
    if key == "non_field_errors":
        return name
    return f"{name}[{key}]" if isinstance(key, int) else f"{name}.{key}" if name else str(key)


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponseBase:
    return _plain(request, 404, "Not found") or defaults.page_not_found(
        request, exception or Http404()
    )


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponseBase:
    text = str(exception) if isinstance(exception, BadRequest) else "Bad request"
    return _plain(request, 400, text) or defaults.bad_request(request, exception or Http404())


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponseBase:
    return _plain(request, 403, "Permission denied") or defaults.permission_denied(
        request, exception or Http404()
    )


def server_error(request: HttpRequest) -> HttpResponseBase:
    """Also of a database that is away, out of connections, or stopped a slow statement."""
    if isinstance(sys.exc_info()[1], OperationalError):
        page = _plain(request, 503, BUSY) or render(request, "503.html", status=503)
        page.headers["Retry-After"] = RETRY_SOON["Retry-After"]
        return page
    return _plain(request, 500, BROKEN) or defaults.server_error(request)


def _plain(request: HttpRequest, status: int, text: str) -> JsonResponse | None:
    """Programs get JSON, even without a matching API route; people get a page."""
    is_program = request.path.startswith(("/api", "/healthz", "/metrics"))
    return JsonResponse(told(status, text), status=status) if is_program else None
