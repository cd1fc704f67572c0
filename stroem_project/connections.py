"""Connections of the server: a deadline for headers, and room for those that come next."""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

log = logging.getLogger("stroem.server")
SPARE_FILES = 200  # for the database, logs and files that the server sends
LATE = "The request's headers did not arrive within {:g} seconds"
FULL = "Too many connections; try again in a moment"
TELL_S = 60.0


def _most() -> int:
    """1,000, or fewer where this process may open few files."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1000 if files == resource.RLIM_INFINITY else max(50, min(1000, files - SPARE_FILES))


class BoundedConnection(H11Protocol):
    """uvicorn waits for headers for ever, and takes any number of connections. When all are taken,
    the one that has been waiting longest without a request makes room."""

    most: ClassVar[int] = _most()
    headers_s: ClassVar[float] = 10.0
    _waiting: ClassVar[dict[BoundedConnection, None]] = {}
    _told_at: ClassVar[float] = -TELL_S

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._tell()
            longest = next(iter(self._waiting), self)
            longest._refuse(503, FULL)
            if longest is self:
                return
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget()

    def _watch(self) -> None:
        """The time runs while a request's headers are awaited."""
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._forget()
        elif self._deadline is None:
            self._waiting[self] = None
            self._deadline = self.loop.call_later(
                self.headers_s, self._refuse, 408, LATE.format(self.headers_s)
            )

    def _forget(self) -> None:
        self._waiting.pop(self, None)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, status: int, sentence: str) -> None:
        self._forget()
        if self.transport.is_closing():
            return
        headers = [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(sentence))),
            ("connection", "close"),
        ]
        response = h11.Response(status_code=status, headers=headers, reason=STATUS_PHRASES[status])
        for event in (response, h11.Data(data=sentence.encode()), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    @classmethod
    def _tell(cls) -> None:
        if time.monotonic() - cls._told_at >= TELL_S:
            cls._told_at = time.monotonic()
            log.warning(
                "%d connections are open, which is the limit: those without a request make room."
                " Put a reverse proxy in front, see docs/guides/operating.md",
                cls.most,
            )
