"""The multiplexed stream of a container's output: frames of an eight-byte header and a payload."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, Literal

import urllib3

Chunk = tuple[Literal["stdout", "stderr"], bytes]
_HEADER = struct.Struct(">BxxxL")
_READ_BYTES = 1 << 16
# an engine whose machine is gone is noticed within half a minute, although nothing is sent
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}


class FrameStream:
    """Iterates over a container's output until the stream ends or breaks. Neither proves that the
    container has ended."""

    def __init__(self, response: Any, *, is_raw: bool) -> None:
        """`is_raw`: the connection was taken over and carries nothing but frames from now on."""
        self._response = response  # closes the connection when it is collected
        reader = response.raw._fp.fp
        self._socket: socket.socket = reader.raw._sock
        self._socket.settimeout(None)
        _keep_alive(self._socket)
        self._read: Callable[[], bytes]
        if is_raw:
            # the reader may hold bytes already, and TLS more of them: never ask the socket itself
            self._read = lambda: bytes(reader.read1(_READ_BYTES))
        else:
            pieces = response.raw.stream(_READ_BYTES, decode_content=False)
            self._read = lambda: bytes(next(pieces, b""))
        self._buffer = bytearray()

    def __iter__(self) -> Iterator[Chunk]:
        stream, missing = "stdout", 0
        while True:
            while missing == 0 and len(self._buffer) >= _HEADER.size:
                number, missing = _HEADER.unpack_from(self._buffer)
                del self._buffer[: _HEADER.size]
                stream = "stderr" if number == 2 else "stdout"
            if missing and self._buffer:
                payload = bytes(self._buffer[:missing])
                del self._buffer[:missing]
                missing -= len(payload)
                yield ("stderr" if stream == "stderr" else "stdout"), payload
                continue
            if not self._fill():
                return

    def send(self, data: bytes, within_s: float | None = None) -> None:
        """To the container's input, if it was attached with it. With a limit, only the thread that
        reads may send."""
        if within_s is None:
            self._socket.sendall(data)
            return
        self._socket.settimeout(within_s)
        try:
            self._socket.sendall(data)
        finally:
            self._socket.settimeout(None)

    def close(self) -> None:
        """End the iteration, from any thread."""
        with contextlib.suppress(OSError):
            # not the TLS socket's own shutdown: after it, ciphertext would be read as frames
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _fill(self) -> bool:
        try:
            data = self._read()
        except (OSError, ValueError, urllib3.exceptions.HTTPError):
            return False
        self._buffer += data
        return bool(data)


def _keep_alive(connection: socket.socket) -> None:
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
