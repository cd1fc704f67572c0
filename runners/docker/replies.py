"""The standard input of a consumer in a container: one line for each event that asked for a
reply."""

from __future__ import annotations

from engine.errors import AuthorError
from runners.docker.errors import EngineGone
from runners.docker.frames import FrameStream
from runners.events import NOT_READ

PATIENCE_S = 10.0  # for a script whose input is full
CUT = (
    "The connection to the Docker engine broke, and with it the way to the script's standard input:"
    " a reply to an event may be lost, so the script must begin again"
)


class Replies:
    """They go the way that the output comes: whoever has lost one has lost the other."""

    stream: FrameStream | None = None

    def send(self, text: str) -> None:
        if self.stream is None:
            raise EngineGone(CUT)
        try:
            self.stream.send(text.encode() + b"\n", within_s=PATIENCE_S)
        except TimeoutError:
            raise AuthorError(NOT_READ) from None
        except OSError as error:
            raise EngineGone(CUT) from error
