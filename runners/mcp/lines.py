"""The library's transport over bytes: one message a line, of a length that we choose.

The library's own one reads lines of any length, and starts programs with more of our environment.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

import anyio
import mcp_types
from mcp.client._transport import TransportStreams
from mcp.shared.message import SessionMessage

LONGEST_LINE = 10_000_000  # bytes
MOST_NONSENSE = 100  # lines that are no messages, before we listen no more
SHOWN = 200


class Wire(Protocol):
    """What carries the bytes. `complaint` is set when nobody listens any more."""

    complaint: str

    async def receive(self) -> bytes:
        """What came; empty at the end."""

    async def send(self, data: bytes) -> None: ...

    async def close(self) -> None:
        """End the other side with everything that it started. Bounded."""


@asynccontextmanager
async def spoken_over(wire: Wire) -> AsyncIterator[TransportStreams]:
    """The library's two streams of messages."""
    incoming, received = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    sending, outgoing = anyio.create_memory_object_stream[SessionMessage](0)

    async def listen() -> None:
        async with incoming:
            try:
                async for message in _messages(wire):
                    await incoming.send(message)
            except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
                return

    async def speak() -> None:
        async with outgoing:
            async for message in outgoing:
                text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
                try:
                    await wire.send(text.encode() + b"\n")
                except OSError:
                    return  # it is gone: the listener tells

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        tasks.start_soon(speak)
        try:
            yield received, sending
        finally:
            with anyio.CancelScope(shield=True):
                await wire.close()
            tasks.cancel_scope.cancel()
            received.close()
            sending.close()


async def _messages(wire: Wire) -> AsyncIterator[SessionMessage]:
    """Lines that are none are passed over, as programs print greetings; but not for ever."""
    nonsense = 0
    async for line in _lines(wire):
        try:
            found = mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False)
        except ValueError:
            said = line.decode("utf-8", "replace").strip()[:SHOWN]
            if not said:
                continue
            nonsense += 1
            wire.complaint = wire.complaint or f"it printed '{said}', which is no message of MCP"
            if nonsense >= MOST_NONSENSE:
                return
        else:
            yield SessionMessage(found)


async def _lines(wire: Wire) -> AsyncIterator[bytes]:
    pieces: list[bytes] = []
    length = 0
    while data := await wire.receive():
        *ended, rest = data.split(b"\n")
        for line in ended:
            yield b"".join([*pieces, line])
            pieces, length = [], 0
        pieces.append(rest)
        length += len(rest)
        if length > LONGEST_LINE:
            wire.complaint = f"it printed a line of more than {LONGEST_LINE:,} bytes"
            return
