"""`/api/jobs/{id}/logs/stream`: a job's log over a WebSocket, as JSON lines: what is stored, then
what comes. It closes once the job has ended and its last lines are sent.

The token comes as `?token=` or in the Authorization header, never from a session: a page of another
site could open a socket in its visitor's name.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from django.core.exceptions import PermissionDenied
from django.db import DatabaseError
from django.utils import timezone
from rest_framework.exceptions import ParseError

from apps.accounts import key_scopes, tokens
from apps.accounts.errors import TokenRefused
from apps.accounts.models import Scope, User
from apps.api import scope
from apps.api.errors import BUSY, told
from apps.api.mistakes import unknown
from apps.jobs.log import tails
from apps.jobs.log.archive import LogsAway
from apps.jobs.log.cursors import EVERYTHING, SETTLED_S, Chunk
from apps.jobs.models import Job
from apps.jobs.pages.hub import Reader, hub, off_loop
from engine.errors import NotFound
from engine.rights import Right

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

PATH = re.compile(r"/api(?:/v1)?/jobs/([^/]+)/logs/stream")
KNOWN = ("token", "skip_backfill")
MOST_OPEN = 200  # of this process
LOOK_S, CHECK_EVERY_S = 1.0, 45.0
DONE, FORBIDDEN, BEHIND = 1000, 1008, 1013  # of the WebSocket protocol
LONGEST_REASON = 123


@dataclass(frozen=True, slots=True)
class Ticket:
    token: str
    job_id: str
    backfill: bool


@dataclass(frozen=True, slots=True)
class Opened:
    job: Job
    known: frozenset[int]  # chunks from before, if the caller wants none of them


class _Refused(Exception):
    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class LogSockets:
    """Serves the sockets; everything else goes to the application."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._open = 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        if (await receive())["type"] != "websocket.connect":
            return
        try:
            ticket = _ticket(scope)
            if self._open >= MOST_OPEN:
                raise _Refused(503, "Too many logs are being followed; try again in a moment")
            opened = await off_loop(_open, ticket)
        except _Refused as refused:
            await _refuse(scope, send, refused)
            return
        self._open += 1
        try:
            await send({"type": "websocket.accept"})
            await _serve(ticket, opened, receive, send)
        finally:
            self._open -= 1


def _ticket(scope: Any) -> Ticket:
    found = PATH.fullmatch(scope["path"])
    if found is None:
        raise _Refused(404, "Not found")
    given = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    if wrong := unknown("query parameter", given, KNOWN):
        raise _Refused(400, wrong)
    skip = given.get("skip_backfill", ["false"])[-1].lower()
    if skip not in ("true", "false", "1", "0"):
        raise _Refused(400, "skip_backfill must be true or false")
    token = given.get("token", [""])[-1] or _bearer(scope)
    return Ticket(token, found[1], backfill=skip in ("false", "0"))


def _bearer(scope: Any) -> str:
    text = dict(scope["headers"]).get(b"authorization", b"").decode("latin-1")
    scheme, _, token = text.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _open(ticket: Ticket) -> Opened:
    """What was there before the socket opened. Raises _Refused."""
    job = _admit(ticket)
    try:
        return Opened(job, frozenset() if ticket.backfill else tails.recent(job.pk))
    except DatabaseError:
        raise _Refused(503, BUSY) from None


def _admit(ticket: Ticket) -> Job:
    """The job, if the token's owner may see its log. Raises _Refused."""
    if not ticket.token:
        raise _Refused(401, "Authentication required")
    try:
        return scope.job(_owner(ticket.token), ticket.job_id, Right.LOGS)
    except TokenRefused as error:
        raise _Refused(401, str(error)) from None
    except ParseError as error:
        raise _Refused(400, str(error)) from None
    except NotFound as error:
        raise _Refused(404, str(error)) from None
    except PermissionDenied as error:
        raise _Refused(403, str(error)) from None
    except DatabaseError:
        raise _Refused(503, BUSY) from None


def _owner(token: str) -> User:
    if token.startswith(tokens.KEY_PREFIX):
        user = tokens.user_of_key(token, timezone.now())
        if refusal := key_scopes.lacks(user, [Scope.READ]):
            raise PermissionDenied(refusal)
        return user
    return tokens.user_of_access(token)


async def _refuse(scope: Any, send: Send, refused: _Refused) -> None:
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": FORBIDDEN})
        return
    body = json.dumps(told(refused.code, str(refused))).encode()
    headers = [(b"content-type", b"application/json")]
    start = {"type": "websocket.http.response.start", "status": refused.code, "headers": headers}
    await send(start)
    await send({"type": "websocket.http.response.body", "body": body})


async def _serve(ticket: Ticket, opened: Opened, receive: Receive, send: Send) -> None:
    """Sends until the log is complete or the caller leaves."""
    sending = asyncio.create_task(_send_all(ticket, opened, send))
    leaving = asyncio.create_task(_left(receive))
    try:
        await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        if sending.done():
            await send({"type": "websocket.close", **_end(sending)})
    finally:
        for task in (sending, leaving):
            task.cancel()
            with suppress(asyncio.CancelledError, OSError, LogsAway):
                await task


def _end(sending: asyncio.Task[int]) -> dict[str, Any]:
    """How to close."""
    try:
        return {"code": sending.result()}
    except LogsAway as error:
        reason = str(error).encode()[:LONGEST_REASON].decode(errors="ignore")
        return {"code": BEHIND, "reason": reason}


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass  # what callers send means nothing


async def _send_all(ticket: Ticket, opened: Opened, send: Send) -> int:
    """The code to close with."""
    job = opened.job
    with hub().joined(Reader(job.pk, EVERYTHING)) as reader:
        sent = set(opened.known)
        if ticket.backfill:
            async for chunk in _stored(job):
                sent.add(chunk.id)
                await send({"type": "websocket.send", "text": chunk.lines})
        checked = time.monotonic()
        while not reader.is_lost:
            for chunk in await _next(reader):
                if chunk.id not in sent:
                    await send({"type": "websocket.send", "text": chunk.lines})
            if reader.waiting.empty() and await off_loop(_is_complete, job):
                return DONE
            if time.monotonic() - checked > CHECK_EVERY_S:
                if not await off_loop(_may_still, ticket):
                    return FORBIDDEN
                checked = time.monotonic()
    return BEHIND


async def _stored(job: Job) -> AsyncIterator[Chunk]:
    after = 0
    while pieces := await off_loop(tails.piece, job.pk, EVERYTHING, after):
        for chunk in pieces:
            yield chunk
        after = pieces[-1].id


async def _next(reader: Reader) -> list[Chunk]:
    """New lines; none if there are none for a moment."""
    try:
        first = await asyncio.wait_for(reader.waiting.get(), LOOK_S)
    except TimeoutError:
        return []
    items = [first]
    while not reader.waiting.empty():
        items.append(reader.waiting.get_nowait())
    return [item.of for item in items if item.of is not None]


def _is_complete(job: Job) -> bool:
    """Whether the job ended so long ago that none of its lines can still appear."""
    ended = Job.objects.filter(pk=job.pk).values_list("completed_at", flat=True).first()
    return ended is not None and (timezone.now() - ended).total_seconds() > SETTLED_S


def _may_still(ticket: Ticket) -> bool:
    try:
        _admit(ticket)
    except _Refused as refused:
        return refused.code == 503
    return True
