"""What a request may carry and how long it may take to say it: checked before anything is stored.

Django would write bodies of any length to a file before it looks at their address.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from django.conf import settings

from apps.workspaces import passes

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

FOR_PROGRAMS = ("/api/", "/worker/", "/healthz", "/metrics", "/mcp", "/hooks/", "/oauth/")
WITH_FORMS = ("/api/", "/admin/", "/approvals/", "/mcp", "/hooks/", "/oauth/")
PARCELS = "/worker/artifacts"
QUESTIONS = "/worker/artifacts/ask"  # of `stroem-step`; the answer says what is too large
MOST_OF_A_QUESTION = 2 * 1_048_576
ROOM_FOR_NAMES = 64 * 1_048_576
MOST_ELSEWHERE = 8_192
MOST_AT_ONCE = 64 * 1_048_576  # bodies of all requests of this process
BODY_S = 30.0
# uploads of state: their bodies pass through to a file
LARGE = re.compile(r"/api/(v1/)?workspaces/[^/]+/(tasks/[^/]+/)?state")
MOST_LARGE, MOST_BYTES_OF_LARGE = 8, 50 * 1_048_576
LARGE_PATIENCE = 10  # times BODY_S
LINGER_S = 2.0  # a caller who is still sending would not see the answer of a closed connection
LINGER_BYTES = 8 * 1_048_576
WORDS = {
    401: "unauthenticated",
    408: "timeout",
    413: "too_large",
    503: "unavailable",
}  # as in the API's errors


GONE: Message = {"type": "http.disconnect"}


class _Refused(Exception):
    """This answer instead of the application's."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Bodies:
    """Reads a body, within its limits, before the application sees the request."""

    def __init__(self, app: App, *, within_s: float = BODY_S, at_once: int = MOST_AT_ONCE) -> None:
        self._app = app
        self._within_s = within_s
        self._at_once = at_once
        self._held = 0
        self._large = 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or (declared := _declared(scope)) is None:
            await self._app(scope, receive, send)
            return
        if scope["path"] == PARCELS:
            await self._pass_on(scope, receive, send)
            return
        if scope["method"] == "POST" and LARGE.fullmatch(scope["path"]):
            await self._pass_large(scope, declared, receive, send)
            return
        body = bytearray()
        try:
            async with asyncio.timeout(self._within_s):
                complete = await self._read(body, declared, most_of(scope["path"]), receive)
        except TimeoutError:
            late = f"The request body did not arrive within {self._within_s:g} seconds"
            await _answer(scope, receive, send, _Refused(408, late))
        except _Refused as refused:
            await _answer(scope, receive, send, refused)
        else:
            if complete:
                await self._app(scope, _replay(bytes(body), receive), send)
        finally:
            self._held -= len(body)

    async def _pass_large(self, scope: Any, declared: int, receive: Receive, send: Send) -> None:
        """A large body goes on as it comes: Django writes it to a file."""
        self._large += 1
        try:
            if self._large > MOST_LARGE:
                raise _Refused(503, "Too many uploads at once; try again in a moment")
            if declared > MOST_BYTES_OF_LARGE:
                raise _too_large(MOST_BYTES_OF_LARGE)
            await self._app(scope, _counted(receive, self._within_s * LARGE_PATIENCE), send)
        except _Refused as refused:
            await _answer(scope, receive, send, refused)
        finally:
            self._large -= 1

    async def _pass_on(self, scope: Any, receive: Receive, send: Send) -> None:
        """Files of pods, which may be large: with a valid pass, Django writes them to a file as
        they come. Each piece must come in time, and all may be as large as a job's files."""
        if passes.read(_bearer(scope)) is None:
            refused = _Refused(401, "This address requires the pass of a running step")
            await _answer(scope, receive, send, refused)
            return
        most = settings.STROEM.artifacts.job_mb * 1_048_576 + ROOM_FOR_NAMES
        seen = 0

        async def metered() -> Message:
            nonlocal seen
            try:
                message = await asyncio.wait_for(receive(), self._within_s)
            except TimeoutError:
                return GONE
            seen += len(message.get("body", b""))
            return message if seen <= most else GONE

        await self._app(scope, metered, send)

    async def _read(self, body: bytearray, declared: int, most: int, receive: Receive) -> bool:
        """Fill `body`; False if the caller has gone."""
        if declared > most:
            raise _too_large(most)
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return False
            chunk = message.get("body", b"")
            if len(body) + len(chunk) > most:
                raise _too_large(most)
            if self._held + len(chunk) > self._at_once:
                raise _Refused(503, "Too many requests with bodies at once; try again in a moment")
            self._held += len(chunk)
            body += chunk
            if not message.get("more_body", False):
                return True


def _bearer(scope: Any) -> str:
    found = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    kind, _, text = str(found).partition(" ")
    return text.strip() if kind.lower() == "bearer" else ""


def most_of(path: str) -> int:
    """Bytes that a request to this path may carry."""
    if path == QUESTIONS:
        return MOST_OF_A_QUESTION
    if path.startswith(WITH_FORMS):
        return int(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
    return MOST_ELSEWHERE


def _declared(scope: Any) -> int | None:
    """The length that the headers announce, 0 if they announce a body without one; None: no
    body."""
    length = None
    for name, value in scope["headers"]:
        if name == b"transfer-encoding":
            return 0
        if name == b"content-length":
            length = int(value)  # the server has checked it
    return length or None


def _too_large(most: int) -> _Refused:
    shown = f"{most // 1_048_576} MB" if most >= 1_048_576 else f"{most // 1024} KB"
    return _Refused(413, f"The request body is larger than {shown}")


def _counted(receive: Receive, within_s: float) -> Receive:
    """The same messages, up to so many bytes and so many seconds of a body."""
    left = MOST_BYTES_OF_LARGE
    deadline = asyncio.get_running_loop().time() + within_s
    is_whole = False

    async def counted() -> Message:
        nonlocal left, is_whole
        if is_whole:  # what comes now is no body
            return await receive()
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            late = f"The request body did not arrive within {within_s:g} seconds"
            raise _Refused(408, late) from None
        left -= len(message.get("body", b""))
        if left < 0:
            raise _too_large(MOST_BYTES_OF_LARGE)
        is_whole = not message.get("more_body", False)
        return message

    return counted


def _replay(body: bytes, receive: Receive) -> Receive:
    whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return whole.pop() if whole else await receive()

    return replay


async def _answer(scope: Any, receive: Receive, send: Send, refused: _Refused) -> None:
    """Answer, then throw away what still comes, for a moment, and close."""
    text, kind = f"{refused}\n", b"text/plain; charset=utf-8"
    if scope["path"].startswith(FOR_PROGRAMS):
        body = {"error": str(refused), "code": WORDS[refused.code]}
        text, kind = json.dumps(body), b"application/json"
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(text)).encode()),
        (b"connection", b"close"),
    ]
    if refused.code == HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append((b"retry-after", b"5"))
    await send({"type": "http.response.start", "status": refused.code, "headers": headers})
    await send({"type": "http.response.body", "body": text.encode(), "more_body": True})
    await _discard(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _discard(receive: Receive) -> None:
    left = LINGER_BYTES
    try:
        async with asyncio.timeout(LINGER_S):
            while left > 0:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))
    except TimeoutError:
        return
