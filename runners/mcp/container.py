"""A server in a container of the Docker engine that this process reaches."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeVar
from uuid import uuid4

import psutil

from engine.agents.servers import Server
from engine.errors import StroemError
from runners.docker.connection import Connection
from runners.docker.errors import EngineRefused
from runners.docker.frames import FrameStream
from runners.docker.request import LABEL
from runners.docker.runner import remove_container
from runners.mcp.errors import ServerError

log = logging.getLogger("stroem.agents")
T = TypeVar("T")
OWNER = f"{LABEL}mcp"
KEPT = 2_000  # bytes of what it complains
MEMORY, PROCESSES = 1 << 30, 256


class Container:
    """The bytes of its input and output. See `lines.Wire`."""

    def __init__(self, connection: Connection, container: str, stream: FrameStream) -> None:
        self.complaint = ""
        self._connection, self._id, self._stream = connection, container, stream
        self._frames = iter(stream)
        self._said = b""
        self._threads = ThreadPoolExecutor(2, "mcp-container")  # one listens, one speaks

    async def receive(self) -> bytes:
        while True:
            frame = await self._aside(lambda: next(self._frames, None))
            if frame is None:
                words = " ".join(self._said.decode("utf-8", "replace").split())[-500:]
                end = "its container ended"
                self.complaint = f"{end}, saying: {words}" if words else self.complaint or end
                return b""
            kind, data = frame
            if kind == "stdout":
                return data
            self._said = (self._said + data)[-KEPT:]

    async def send(self, data: bytes) -> None:
        await self._aside(lambda: self._stream.send(data))

    async def close(self) -> None:
        self._stream.close()
        with suppress(StroemError):  # the engine removes it when it ends, and the next sweep
            await asyncio.to_thread(remove_container, self._connection, self._id)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _aside(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


async def start(server: Server) -> Container:
    """Raises ServerError."""
    try:
        return await asyncio.to_thread(_start, server)
    except StroemError as error:
        raise ServerError(f"its container cannot be started: {error}") from None


def _start(server: Server) -> Container:
    connection = _connection()
    made = _create(connection, server)
    stream = connection.attach(made, with_input=True)
    try:
        connection.call("start", made)
    except StroemError:
        stream.close()
        remove_container(connection, made)
        raise
    return Container(connection, made, stream)


@lru_cache(maxsize=1)
def _connection() -> Connection:
    """To the engine, after what an earlier process left there is gone."""
    found = Connection(None)
    for one in found.call("containers", all=True, filters={"label": [OWNER]}):
        if is_left(one["Labels"][OWNER]):
            log.warning("removing a container that an earlier process left: %s", one["Id"][:12])
            remove_container(found, one["Id"])
    return found


def _create(connection: Connection, server: Server) -> str:
    request, name = request_of(server), f"stroem-mcp-{uuid4().hex[:12]}"
    try:
        return connection.create_container(request, name, None)
    except EngineRefused as refusal:
        if refusal.status != 404:
            raise
    connection.call("pull", server.image)
    return connection.create_container(request, name, None)


def request_of(server: Server) -> dict[str, Any]:
    """No files of the host, no privileges, no log; its input ends with this process."""
    return {
        "Image": server.image,
        **({"Cmd": list(server.argv)} if server.argv else {}),
        "Env": [f"{name}={value}" for name, value in server.env.items()],
        "OpenStdin": True,
        "StdinOnce": True,
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Labels": {OWNER: owner()},
        "HostConfig": {
            "AutoRemove": True,
            "Init": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "Memory": MEMORY,
            "PidsLimit": PROCESSES,
            "LogConfig": {"Type": "none"},
        },
    }


def owner() -> str:
    """This process, among all that use the engine."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_left(owned_by: str) -> bool:
    """Whether a process of this host that is gone owns it. Those of other hosts are not ours."""
    host, _, process = owned_by.rpartition(":")[0].rpartition(":")
    if host != socket.gethostname() or not process.isdecimal():
        return False
    try:
        began = psutil.Process(int(process)).create_time()
    except psutil.NoSuchProcess:
        return True
    return f"{began:.2f}" != owned_by.rpartition(":")[2]
