"""One server while it lives: a task of the event loop connects, asks and closes, as the library
wants all of it in one task."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2
import mcp_types
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED
from pydantic import ValidationError

from engine.agents.offers import MOST_TOOLS, RemoteTool
from engine.agents.servers import McpRules, Server
from engine.errors import StroemError
from runners.mcp import container, program, web
from runners.mcp.errors import ServerError
from runners.mcp.lines import Wire, spoken_over

MOST_PAGES = 20
CLOSE_S = 15.0
_FAILURES = (
    MCPError, ValidationError, StroemError, OSError, RuntimeError, ValueError, httpx2.HTTPError,
    httpx2.StreamError, httpx2.InvalidURL, ExceptionGroup,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool answered, as text."""

    text: str = field(repr=False)
    is_error: bool = False


_Wanted = tuple[str, Mapping[str, Any], "asyncio.Future[Result]"]


class Session:
    """Used in the event loop only."""

    def __init__(self, server: Server, rules: McpRules) -> None:
        self._server, self._rules = server, rules
        self._heard: Wire | web.Guarded | None = None
        self._wanted: asyncio.Queue[_Wanted | None] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[tuple[RemoteTool, ...]] = loop.create_future()
        self._task = asyncio.create_task(self._live())

    @property
    def is_alive(self) -> bool:
        return not self._task.done()

    async def tools(self) -> tuple[RemoteTool, ...]:
        """What the server lists. Raises ServerError if it does not start or speaks nonsense."""
        timeout_s = self._server.timeout_s
        if not await self._first(self._ready, timeout_s):
            raise ServerError(self._told(f"it did not answer within {timeout_s:g} s"))
        if not self._ready.done():
            raise ServerError(self._told("it ended before it answered"))
        return self._ready.result()

    async def call(self, tool: str, arguments: Mapping[str, Any], timeout_s: float) -> Result:
        """Raises ServerError if no answer came: the call may have had its effect."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._wanted.put_nowait((tool, arguments, answer))
        has_ended = await self._first(answer, timeout_s)
        if answer.done():
            return answer.result()
        late = f"it did not answer within {timeout_s:g} s"
        raise ServerError(self._told("it ended before it answered" if has_ended else late))

    async def _first(self, answer: asyncio.Future[Any], timeout_s: float) -> bool:
        """Wait for the answer, or the end of the server; False if neither comes in time."""
        both: set[asyncio.Future[Any]] = {answer, self._task}
        done, _ = await asyncio.wait(both, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    async def close(self) -> None:
        """End the server with all that it started. Bounded."""
        self._wanted.put_nowait(None)
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=CLOSE_S)
        if self._ready.done() and not self._ready.cancelled():
            self._ready.exception()  # it was seen, or nobody wants to know

    async def _live(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                client = await self._connect(stack)
                self._ready.set_result(await _list(client))
                while (wanted := await self._wanted.get()) is not None:
                    if not await self._answer(client, *wanted):
                        return
        except _FAILURES as error:
            if not self._ready.done():
                self._ready.set_exception(ServerError(self._told(_words(error))))

    async def _connect(self, stack: AsyncExitStack) -> Client:
        server = self._server
        if server.url:
            guarded = self._heard = web.Guarded(server, self._rules)
            http = await stack.enter_async_context(web.client(server, guarded))
            transport = streamable_http_client(server.url, http_client=http)
        else:
            wire = self._heard = await self._start(server)
            transport = spoken_over(wire)
        client = Client(transport, cache=None, read_timeout_seconds=server.timeout_s)
        return await stack.enter_async_context(client)

    async def _start(self, server: Server) -> Wire:
        if server.image:
            return await container.start(server)
        return await program.start(server, self._rules.run_as)

    async def _answer(
        self,
        client: Client,
        tool: str,
        arguments: Mapping[str, Any],
        answer: asyncio.Future[Result],
    ) -> bool:
        """Whether the server is still there."""
        # Not `call_tool`: it runs the server's own schema, with patterns of any cost, in our loop.
        params = mcp_types.CallToolRequestParams(name=tool, arguments=dict(arguments))
        request = mcp_types.CallToolRequest(params=params)
        try:
            found = await client.session.send_request(request, mcp_types.CallToolResult)
        except _FAILURES as error:
            if not answer.done():
                answer.set_exception(ServerError(self._told(_words(error))))
            return isinstance(error, MCPError) and error.code != CONNECTION_CLOSED
        if not answer.done():
            answer.set_result(Result(text_of(found), bool(found.is_error)))
        return True

    def _told(self, what: str) -> str:
        complaint = self._heard.complaint if self._heard is not None else ""
        return f"{what}: {complaint}" if complaint else what


async def _list(client: Client) -> tuple[RemoteTool, ...]:
    found: list[RemoteTool] = []
    cursor: str | None = None
    for _ in range(MOST_PAGES):
        page = await client.list_tools(cursor=cursor)
        found += [
            RemoteTool(tool.name, tool.description or tool.title or "", tool.input_schema)
            for tool in page.tools
        ]
        cursor = page.next_cursor
        if cursor is None or len(found) > MOST_TOOLS:
            break
    if len(found) > MOST_TOOLS:
        raise ServerError(f"it lists more than {MOST_TOOLS} tools")
    return tuple(found)


def text_of(found: mcp_types.CallToolResult) -> str:
    """What the model reads: texts as they are; of anything else, what it is."""
    texts = [_text_of(part) for part in found.content]
    if not texts and found.structured_content is not None:
        return json.dumps(found.structured_content, ensure_ascii=False)
    return "\n".join(texts)


def _text_of(part: Any) -> str:
    match part:
        case mcp_types.TextContent():
            return part.text
        case mcp_types.ImageContent() | mcp_types.AudioContent():
            return f"[{part.type}, {part.mime_type}, {len(part.data):,} letters: left out]"
        case mcp_types.ResourceLink():
            return f"[resource {part.uri}: {part.description or part.name}]"
        case mcp_types.EmbeddedResource():
            content = part.resource
            text = getattr(content, "text", None)
            return text if text is not None else f"[resource {content.uri}: left out]"
    return "[content of an unknown kind: left out]"


def _words(error: BaseException) -> str:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ServerError):
        return str(error)
    if isinstance(error, ValidationError):
        return f"its answer does not follow the protocol ({error.error_count()} mistakes)"
    told = " ".join(str(error).split())[:300]
    if told.startswith("Failed to parse JSON"):
        return "its answer is no message of MCP"
    return told or type(error).__name__
