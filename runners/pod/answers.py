"""What an API server's refusals and silences mean: whose fault, and whether waiting helps."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
from collections.abc import Iterator
from typing import Any

import pydantic
import urllib3
from kubernetes import client

from engine.errors import AuthorError, PlatformError

# the authorizer's sentence; admission rules have others
_NO_RIGHT = re.compile(r'forbidden: User "[^"]*" cannot ')
_ANONYMOUS = 'User "system:anonymous"'
# a proxy in between says these too, but never with a Status
_NEEDS_STATUS = frozenset({403, 404, 405, 410})


class ClusterAway(PlatformError):
    """The API server is unreachable or asks to retry later (429, 5xx)."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Denied(ClusterAway):
    """The API server does not accept our credentials (401), or no longer allows what it did: it has
    just restarted, or the account was revoked."""


class Refused(AuthorError):
    """The API server refused the request. `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_lack_of_room(self) -> bool:
        """A quota is used up: other pods will end."""
        return self.status == 403 and "exceeded quota" in str(self)


def translate(
    error: client.ApiException, *, is_reading: bool, was_allowed: bool, may_be_early: bool
) -> ClusterAway | Refused:
    """`was_allowed`: the same kind of request has succeeded before. `may_be_early`: a right that
    lacks may be unknown only to a server that has just started."""
    status = int(error.status or 0)
    told = _read_status(error)
    message = str(error.reason or "") if told is None else told
    if status == 429 or status >= 500 or status == 0:
        header = (error.headers or {}).get("Retry-After")
        seconds = float(header) if header and header.isdigit() else None
        return ClusterAway(f"The API server answered {status}: {message}", seconds)
    if status == 401:
        return Denied(
            f"The API server does not accept the worker's credentials ({status}: {message})"
        )
    if told is None and status in _NEEDS_STATUS:
        return ClusterAway(f"Something in front of the API server answered {status}: {message}")
    lacks_right = status == 403 and lacks_a_right(message)
    if lacks_right and (was_allowed or may_be_early or _ANONYMOUS in message):
        return Denied(f"The API server does not allow the worker's account this: {message}")
    if status == 403 and was_allowed and is_reading:
        return Denied(f"The API server refuses what it allowed before: {message}")
    return Refused(message[:2000], status)


def describe_silence(error: BaseException, host: str) -> str:
    """Why there was no answer, in words."""
    at = f"The API server cannot be reached at {host}"
    causes = list(_list_causes(error))
    for cause in causes:
        if isinstance(cause, urllib3.exceptions.NameResolutionError):
            return f"{at}: its name is unknown here"
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"{at}: its certificate is not trusted ({cause.verify_message})"
        if isinstance(cause, OSError) and cause.strerror:
            return f"{at}: {cause.strerror}"
    # the client calls a refused connection a timeout too, so this comes last
    if any(isinstance(cause, urllib3.exceptions.TimeoutError) for cause in causes):
        return f"{at}: it does not answer in time"
    return f"{at}: the connection broke"


def _list_causes(error: BaseException | None) -> Iterator[BaseException]:
    while isinstance(error, BaseException):
        yield error
        error = getattr(error, "reason", None) or error.__cause__ or error.__context__


def describe_invalid(error: pydantic.ValidationError) -> str:
    parts = [
        f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
        for item in error.errors()[:5]
    ]
    return f"the manifest is not a valid pod: {'; '.join(parts)}"


def _read_status(error: client.ApiException) -> str | None:
    """The message of the Status in the body; None without one."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        told: Any = json.loads(error.body or "")
        return str(told["message"])
    return None


def lacks_a_right(message: str) -> bool:
    return _NO_RIGHT.search(message) is not None
