"""The multiplexed stream of an attached container: frames of an eight-byte header and a payload."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Any, Literal

Chunk = tuple[Literal["stdout", "stderr"], bytes]
_HEADER = struct.Struct(">BxxxL")
_READ_BYTES = 1 << 16


class FrameStream:
    """Iterates over a container's output until the stream ends or breaks, without telling which."""

    def __init__(self, response: Any) -> None:
        self._response = response  # closes the connection when it is collected
        reader = response.raw._fp.fp
        self._socket = reader.raw._sock
        self._socket.settimeout(0)
        self._buffer = bytearray(reader.read1(_READ_BYTES) or b"")
        self._socket.settimeout(None)

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

    def close(self) -> None:
        """End the iteration, from any thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _fill(self) -> bool:
        try:
            data = self._socket.recv(_READ_BYTES)
        except (OSError, ValueError):
            return False
        self._buffer += data
        return bool(data)


def skip_known(chunks: Iterator[Chunk], known: dict[str, int]) -> Iterator[Chunk]:
    """`chunks` of a replay without the first `known` bytes of each stream; `known` is counted
    down."""
    for stream, payload in chunks:
        skipped = min(known.get(stream, 0), len(payload))
        if skipped:
            known[stream] -= skipped
        if payload[skipped:]:
            yield stream, payload[skipped:]
