"""The ASGI side: an API key, a host and an origin that we know; then the official server.

Each request gets a server of its own that knows its user: nothing is kept between two requests, so
any server process answers any of them.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError, connections
from django.http.request import split_domain_port, validate_host
from django.utils import timezone

from apps.accounts import connected, tokens
from apps.accounts.errors import TokenRefused
from apps.accounts.models import User
from apps.api.mcp.answers import Answer
from apps.api.mcp.tools import Toolbox
from apps.api.oauth import offer
from apps.audit import services as audit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Receive, Send], Awaitable[None]]

PATH = "/mcp"
NO_KEY = "The MCP server takes an API key: Authorization: Bearer strm_..."
NOT_A_KEY = "The MCP server takes API keys only, not access tokens of a sign-in"
UNAVAILABLE = "The database is not reachable; try again in a moment"


class Mcp:
    """Serves /mcp, and everything else through `app`."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].rstrip("/") != PATH:
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        refusal = _refusal(headers)
        if refusal is not None:
            await _refuse(send, 403, refusal)
            return
        try:
            user = await sync_to_async(_user, thread_sensitive=False)(
                headers.get("authorization", "")
            )
        except TokenRefused as error:
            wrong = "invalid_token" if "authorization" in headers else ""
            await _refuse(send, 401, str(error), offer.challenge(wrong))
        except DatabaseError:
            await _refuse(send, 503, UNAVAILABLE)
        else:
            client = (scope.get("client") or ("",))[0]
            key = "" if user.key is None else user.key.prefix
            audit.begin(audit.Origin("mcp", str(client), user.email, key))
            await _serve(user, scope, receive, send)


def _refusal(headers: Mapping[str, str]) -> str | None:
    """Why a browser was led here by another site's name or page; None where it was not."""
    host, _ = split_domain_port(headers.get("host", ""))
    if not host or not validate_host(
        host, [*settings.ALLOWED_HOSTS, *settings.STROEM.mcp.allowed_hosts]
    ):
        return "This host is not in `allowed_hosts`"
    origin = headers.get("origin")
    known = {settings.BASE_URL, *settings.STROEM.mcp.allowed_origins}
    if origin is None or origin.rstrip("/") in known:
        return None
    if urlsplit(origin).netloc == headers.get("host"):
        return None
    return "This origin is not in `mcp.allowed_origins`"


def _user(authorization: str) -> User:
    """The user of the API key, or whoever let the agent in. Raises TokenRefused."""
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise TokenRefused(NO_KEY)
    is_key = token.startswith(tokens.KEY_PREFIX)
    if not is_key and not offer.is_offered():
        raise TokenRefused(NOT_A_KEY)
    try:
        if is_key:
            return tokens.user_of_key(token, timezone.now())
        return connected.user_of(token, offer.resource(), timezone.now())
    finally:
        connections.close_all()


async def _serve(user: User, scope: Any, receive: Receive, send: Send) -> None:
    from mcp.server.lowlevel import Server
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp_types import CallToolRequestParams, CallToolResult, ListToolsResult, TextContent, Tool

    from engine import VERSION

    box = Toolbox(user)

    async def list_tools(context: Any, params: Any) -> ListToolsResult:
        found = await _apart(box.list_tools)
        return ListToolsResult(
            tools=[
                Tool(name=one.name, description=one.description, input_schema=one.schema)
                for one in found
            ]
        )

    async def call_tool(context: Any, params: CallToolRequestParams) -> CallToolResult:
        answer = await _answer(box, params.name, params.arguments or {})
        return CallToolResult(content=[TextContent(text=answer.text)], is_error=answer.is_error)

    server: Any = Server(
        "stroem", version=VERSION, on_list_tools=list_tools, on_call_tool=call_tool
    )
    manager = StreamableHTTPSessionManager(
        server,
        json_response=True,
        stateless=True,
        max_request_body_size=settings.DATA_UPLOAD_MAX_MEMORY_SIZE,
    )
    async with manager.run():
        await manager.handle_request(scope, receive, send)


async def _answer(box: Toolbox, name: str, arguments: Mapping[str, Any]) -> Answer:
    """The answer of a tool; one that waits is asked again, and holds no connection meanwhile."""
    call = await _apart(box.begin, name, arguments)
    while not isinstance(call, Answer):
        await call.pause()
        call = await _apart(call.look)
    return call


async def _apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run it in a thread, which gives its connection back."""

    def run() -> Any:
        try:
            return function(*arguments)
        finally:
            connections.close_all()

    return await sync_to_async(run, thread_sensitive=False)()


async def _refuse(send: Send, status: int, sentence: str, challenge: str = "") -> None:
    body = json.dumps({"error": sentence}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if challenge:
        headers.append((b"www-authenticate", challenge.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
