"""Calls of the tools of MCP servers: what the model reads of each."""

from __future__ import annotations

from dataclasses import dataclass, field

from apps.agents.ledger import Errand
from runners.agents.errors import Stopped
from runners.base import StopSignal
from runners.mcp.errors import ServerError
from runners.mcp.servers import Servers


@dataclass(frozen=True, slots=True)
class Made:
    """How a call ended. `trouble`: the server cannot be used, so the step ends."""

    text: str = field(repr=False)
    is_done: bool = True
    trouble: str | None = None


def make_errand(errand: Errand, servers: Servers, stop: StopSignal, left_s: float | None) -> Made:
    """Make the call, once. Raises Stopped: then nobody knows whether it had its effect."""
    if stop.reason is not None:
        raise Stopped
    try:
        servers.tools(errand.server)
    except ServerError as error:
        return Made(f"The call was not made: {error}", is_done=False, trouble=str(error))
    try:
        result = servers.call(errand.server, errand.tool, errand.arguments, left_s)
    except ServerError as error:
        told = f"{error}. Whether the call had its effect is not known."
        return Made(told, is_done=False)
    return Made(result.text, is_done=not result.is_error)
