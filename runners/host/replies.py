"""The standard input of a consumer: one line for each event that asked for a reply."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress

from engine.errors import AuthorError
from runners.events import NOT_READ

_ROOM_BYTES = 1 << 20
_SET_SIZE = getattr(fcntl, "F_SETPIPE_SZ", None)


class Replies:
    """A pipe that the script reads. Never waits: a script that asks for replies and does not read
    them fails once the pipe is full."""

    def __init__(self) -> None:
        self.reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)
        if _SET_SIZE is not None:
            with suppress(OSError):  # it keeps its size then
                fcntl.fcntl(self._writing, _SET_SIZE, _ROOM_BYTES)

    def send(self, text: str) -> None:
        line = text.encode() + b"\n"
        try:
            sent = os.write(self._writing, line)
        except BlockingIOError:
            sent = 0
        if sent < len(line):
            raise AuthorError(NOT_READ)

    def close(self) -> None:
        os.close(self.reading)
        os.close(self._writing)
