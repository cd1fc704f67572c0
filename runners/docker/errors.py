"""What an engine's errors mean, in sentences that name the real cause."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from collections.abc import Iterator

from engine.errors import AuthorError, PlatformError

_CAUSES: dict[int, str] = {
    errno.ENOENT: "the socket does not exist; is the engine running?",
    errno.EACCES: (
        "the worker's user may not use the socket; add the user to the group that owns it, often"
        " `docker`"
    ),
    errno.ECONNREFUSED: "nothing listens there; is the engine running?",
    errno.ECONNRESET: "it closed the connection",
    errno.EPIPE: "it closed the connection",
    errno.EHOSTUNREACH: "there is no route to its host",
    errno.ENETUNREACH: "there is no route to its host",
    errno.EMFILE: "the worker has too many open files; raise its limit (`ulimit -n`)",
}
_PLAIN_TO_TLS = re.compile(r"HTTP request to an HTTPS server", re.IGNORECASE)


class EngineGone(PlatformError):
    """The engine does not answer."""


class EngineFailed(PlatformError):
    """The engine reported an internal error."""


class EngineRefused(AuthorError):
    """The engine refused the request. `status` is its HTTP status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def explain(error: BaseException) -> str:
    """Why the engine cannot be reached: libraries wrap the cause several times over."""
    chain = list(_unwrap(error))
    for one in reversed(chain):
        told = _explain_one(one)
        if told is not None:
            return told
    if any("Timeout" in type(one).__name__ for one in chain):
        return "it did not answer in time"
    innermost = str(chain[-1]).strip() or str(error).strip()
    return innermost[:500] or "the connection broke"


def _explain_one(error: BaseException) -> str | None:
    text = str(error)
    if _PLAIN_TO_TLS.search(text):
        return "it expects TLS; set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH for the worker"
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError() if "WRONG_VERSION_NUMBER" in text:
            return "it does not use TLS; unset DOCKER_TLS_VERIFY and DOCKER_CERT_PATH"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or text}"
        case socket.gaierror():
            return f"the name of its host cannot be resolved: {error.strerror}"
        case TimeoutError():
            return "it did not answer in time"
        case OSError(errno=int(number)):
            return _CAUSES.get(number) or error.strerror or text
    if "RemoteDisconnected" in type(error).__name__:
        return "it closed the connection"
    return None


def _unwrap(error: BaseException) -> Iterator[BaseException]:
    """The error and everything that it wraps, innermost last."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
        waiting += [found for found in inner if isinstance(found, BaseException)]


def clean(message: str) -> str:
    """An engine's message without the layers that passed it on."""
    message = re.sub(
        r"^(failed to create shim( task)?: )?(OCI runtime create failed: )?", "", message.strip()
    )
    return re.sub(r"(: unknown)+$", "", message)[:2000]


def is_authors(message: str) -> bool:
    """Whether the engine reports an error as its own although the image or the request caused
    it."""
    return bool(
        re.search(
            r"executable file not found|no such file or directory|permission denied|not found"
            r"|unable to find user|no matching entries in passwd",
            message,
        )
    )
