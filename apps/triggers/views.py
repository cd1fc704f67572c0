"""The addresses of webhooks: /hooks/NAME, /hooks/WORKSPACE/NAME, and the jobs behind them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import DatabaseError, DataError, connections
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from apps.jobs.database.sql import storable
from apps.triggers import hooks
from apps.triggers.hooks import Reply
from engine.errors import Conflict, NotFound, StroemError
from engine.webhooks import NotVerified, Received

MOST_WAIT_S = 300.0
LOOK_S = 0.25
ASKED = ("wait", "timeout", "secret")  # of a job's address, by its query parameters
MOST_WAITING = 64  # requests of this process that wait for a job; more are answered at once
UNAVAILABLE = "The database is not reachable; try again in a moment"

_waiting = 0


@csrf_exempt
async def receive(request: HttpRequest, address: str, workspace: str | None = None) -> JsonResponse:
    """GET or POST a webhook."""
    if request.method not in ("GET", "HEAD", "POST"):
        return _answer(Reply(405, {"error": "Webhooks take POST"}), Allow="POST")
    got = _received(request)

    def act() -> Reply:
        trigger = hooks.find(address, workspace)
        if request.method != "POST" and not trigger.definition["options"].get("allow_get"):
            return Reply(405, {"error": "This webhook takes POST"})
        return hooks.receive(trigger, got)

    reply = await _apart(act)
    if reply.status == 405:
        return _answer(reply, Allow="POST")
    if reply.follow is None:
        return _answer(reply)
    end = await _end_of(lambda: _state(address, workspace, reply.follow), reply.wait_s)
    if end is None:
        return _answer(Reply(202, {**reply.body, "status": "running"}))
    shown = {"status": end["status"]} | ({"output": end["output"]} if end["output"] else {})
    return _answer(Reply(200, {**reply.body, **shown}))


async def show_job(
    request: HttpRequest, job: str, address: str, workspace: str | None = None
) -> JsonResponse:
    """GET the status of a job that a webhook started, perhaps once it has ended."""
    if request.method not in ("GET", "HEAD"):
        return _answer(Reply(405, {"error": "This address takes GET"}), Allow="GET")
    got = _received(request)
    try:
        job_id = UUID(job)
    except ValueError:
        return _answer(Reply(400, {"error": "Invalid job ID"}))
    try:
        wait_s = _wait_s(request)
    except ValueError as wrong:
        return _answer(Reply(400, {"error": str(wrong)}))

    def act() -> Reply:
        trigger = hooks.find(address, workspace)
        hooks.check(trigger, got)
        return Reply(200, hooks.job_of(trigger, job_id))

    reply = await _apart(act)
    if reply.status != 200 or not wait_s or hooks.is_final(reply.body["status"]):
        return _answer(reply)
    end = await _end_of(lambda: _state(address, workspace, job_id), wait_s)
    if end is None:
        return _answer(Reply(202, (await _apart(act)).body))
    return _answer(Reply(200, end))


def _wait_s(request: HttpRequest) -> float:
    """Seconds to wait for the job's end; 0 for none. Raises ValueError."""
    for name in request.GET:
        if name not in ASKED:
            raise ValueError(f"Unknown query parameter; expected one of: {', '.join(ASKED)}")
    wait = request.GET.get("wait", "false").lower()
    if wait not in ("true", "1", "false", "0"):
        raise ValueError("wait must be true or false")
    if wait in ("false", "0"):
        if "timeout" in request.GET:
            raise ValueError("timeout goes with wait=true")
        return 0.0
    text = request.GET.get("timeout", "30")
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= MOST_WAIT_S):
        raise ValueError(f"timeout must be 1 to {MOST_WAIT_S:g} seconds")
    return float(text)


def _received(request: HttpRequest) -> Received:
    query = {name: str(value).replace("\x00", "\ufffd") for name, value in request.GET.items()}
    headers = {name.lower(): storable(value) for name, value in request.headers.items()}
    named = {storable(name): storable(value) for name, value in query.items()}
    return Received(request.method or "", headers, named, request.body)


def _state(address: str, workspace: str | None, job_id: UUID | None) -> Reply:
    assert job_id is not None
    return Reply(200, hooks.job_of(hooks.find(address, workspace), job_id))


async def _end_of(look: Callable[[], Reply], wait_s: float) -> Mapping[str, Any] | None:
    """The job once it has ended; None if it goes on, or too many wait already. Any server process
    sees the end, for the database tells it; none of them holds a connection between two looks."""
    global _waiting
    if _waiting >= MOST_WAITING:
        return None
    until = time.monotonic() + wait_s
    _waiting += 1
    try:
        while True:
            found = await _apart(look)
            if found.status != 200:
                return None
            if hooks.is_final(found.body["status"]):
                return found.body
            if time.monotonic() >= until:
                return None
            await asyncio.sleep(min(LOOK_S, max(0.01, until - time.monotonic())))
    finally:
        _waiting -= 1


async def _apart(act: Callable[[], Reply]) -> Reply:
    """Do it in a thread that gives its connection back; what goes wrong is an answer."""

    def run() -> Reply:
        try:
            return act()
        except NotFound as error:
            return Reply(404, {"error": str(error)})
        except NotVerified:
            return Reply(401, {"error": "Invalid or missing secret"})
        except Conflict as error:
            return Reply(409, {"error": str(error)})
        except DataError:
            return Reply(422, {"error": "The request holds what cannot be stored"})
        except DatabaseError:
            return Reply(503, {"error": UNAVAILABLE})
        except StroemError as error:
            return Reply(422, {"error": str(error)})
        finally:
            connections.close_all()

    return await sync_to_async(run, thread_sensitive=False)()


def _answer(reply: Reply, **headers: str) -> JsonResponse:
    response = JsonResponse(dict(reply.body), status=reply.status)
    response["Cache-Control"] = "no-store"
    if reply.status == 503:
        response["Retry-After"] = "5"
    for name, value in headers.items():
        response[name] = value
    return response
