"""The MCP servers of one conversation while a process holds it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from engine.agents.offers import RemoteTool
from engine.agents.servers import McpRules, Server, refusal
from runners.agents.loop import run
from runners.agents.services import Never
from runners.base import StopSignal
from runners.mcp.errors import ServerError

if TYPE_CHECKING:
    from runners.mcp.session import Result, Session

T = TypeVar("T")
CLOSE_S = 20.0


class Servers:
    """Starts each server when it is needed first; for one thread."""

    def __init__(
        self,
        given: Mapping[str, Server],
        rules: McpRules,
        stop: StopSignal,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._given, self._rules, self._stop, self._say = given, rules, stop, say
        self._open: dict[str, Session] = {}

    def tools(self, name: str) -> tuple[RemoteTool, ...]:
        """What the server lists. Raises ServerError, Stopped."""
        timeout_s = self._server(name).timeout_s
        return self._run(name, self._tools(name), timeout_s)

    def call(
        self, name: str, tool: str, arguments: Mapping[str, Any], left_s: float | None
    ) -> Result:
        """One call; ServerError if no answer came: it may have had its effect. Call `tools`
        before: it starts the server."""
        timeout_s = self._server(name).timeout_s
        if left_s is not None:
            timeout_s = max(0.0, min(timeout_s, left_s))
        return self._run(name, self._open[name].call(tool, arguments, timeout_s), timeout_s)

    def close(self) -> None:
        """End them all. Bounded."""
        found = list(self._open.values())
        self._open.clear()
        if found:
            try:
                run(_close_all(found), Never(), CLOSE_S, 0.0)
            except TimeoutError:
                self._say("an MCP server did not end in time")

    def _server(self, name: str) -> Server:
        server = self._given[name]
        why = refusal(server, self._rules)
        if why is not None:
            raise ServerError(f"MCP server '{name}' {why}")
        return server

    async def _tools(self, name: str) -> tuple[RemoteTool, ...]:
        known = self._open.get(name)
        if known is None or not known.is_alive:
            known = self._open[name] = await _begin(self._given[name], self._rules)
        return await known.tools()

    def _run(self, name: str, work: Coroutine[Any, Any, T], timeout_s: float) -> T:
        try:
            return run(work, self._stop, timeout_s)
        except TimeoutError:
            raise ServerError(f"MCP server '{name}': it did not answer in time") from None
        except ServerError as error:
            raise ServerError(f"MCP server '{name}': {error}") from None


async def _begin(server: Server, rules: McpRules) -> Session:
    session = await asyncio.to_thread(_session_class)
    return session(server, rules)


def _session_class() -> type[Session]:
    """Imports the library, which takes a second: not in the loop that all share."""
    from runners.mcp.session import Session

    return Session


async def _close_all(sessions: list[Session]) -> None:
    await asyncio.gather(*(session.close() for session in sessions))
