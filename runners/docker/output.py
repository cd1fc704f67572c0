"""A container's output to its proven end.

The attached stream says neither that it was cut nor that the container has ended. So the engine's
own record of the output has the last word: it is where a cut stream is continued, and the end that
we know must be its end. Lines are counted, not bytes: the record may hold broken characters in
another form.
"""

from __future__ import annotations

from collections.abc import Iterator

from runners.docker.connection import Connection
from runners.docker.errors import EngineFailed, EngineRefused
from runners.docker.frames import Chunk, FrameStream
from runners.lines import LineFeed

# The engine's copy of a log; a flood must not fill its disk.
KEPT_BYTES = 64 << 20
LOG_BOUNDS = {
    driver: {"max-size": f"{KEPT_BYTES}", "max-file": "2"} for driver in ("json-file", "local")
}
# how much a line takes up there at most beside its text, and any but a plain character, as JSON
_LINE_COST, _ODD_COST = 100, 6
_PLAIN = bytes(number for number in range(32, 127) if chr(number) not in '"\\<>&')
_TAIL_BYTES = 1 << 14
_LONG = 1 << 12  # characters of a line that may be recorded in pieces, whatever bytes they take


class ContainerOutput:
    """Feeds one container's output to `feed`, each line once. `gap` says why lines may be
    missing."""

    def __init__(
        self, connection: Connection, container: str, feed: LineFeed, log_driver: str
    ) -> None:
        self._connection = connection
        self._container = container
        self._feed = feed
        self._is_bounded = log_driver in LOG_BOUNDS
        self._told = {"stdout": _Told(), "stderr": _Told()}
        self._is_broken = False
        self._unproven_from: int | None = None  # the size at which a stream was cut for good
        self.gap: str | None = None

    def read(self, chunks: Iterator[Chunk]) -> None:
        for stream, payload in chunks:
            self._told[stream].add(payload)
            self._feed.feed(stream, payload)

    def resume(self) -> FrameStream:
        """A stream in place of one that ended although the container runs on; read it with
        `read_on`."""
        self._is_broken = True
        told = "The connection to the Docker engine broke; the step kept running"
        if self._is_all_recorded():
            self._feed.say(told)
            return self._connection.read_log(self._container, follow=True)
        self._feed.say(f"{told}, and lines may be missing here")
        if self._unproven_from is None:
            self._unproven_from = self._size
        return self._connection.attach(self._container)

    def read_on(self, stream: FrameStream) -> None:
        chunks = iter(stream)
        self.read(self._skip_told(chunks) if self._unproven_from is None else chunks)

    def complete(self, *, is_suspect: bool) -> None:
        """Feed what is still missing now that the container has ended. `is_suspect`: the stream
        ended well before the container did."""
        try:
            if self._is_whole(is_suspect=is_suspect):
                return
            if self._unproven_from is None and self._is_all_recorded():
                self._catch_up()
            else:
                self._note_gap()
        except (EngineRefused, EngineFailed) as problem:
            # some log drivers keep nothing that can be read
            if self._is_broken:
                self._note_gap(f" ({problem})")

    def _is_whole(self, *, is_suspect: bool) -> bool:
        if self._unproven_from is not None:
            return self._size == self._unproven_from and self._ends_as_recorded()
        if is_suspect and self._is_all_recorded():
            return False  # counting is surer than comparing the last line
        return self._ends_as_recorded()

    def _catch_up(self) -> None:
        rest = self._connection.read_log(self._container, follow=False)
        self.read(self._skip_told(iter(rest)))
        if not self._is_all_recorded():  # by now its beginning may be gone
            self._note_gap()

    def _note_gap(self, why: str = "") -> None:
        self.gap = (
            "The connection to the Docker engine broke while the step ran, and the engine has not"
            f" kept all of its output: lines may be missing{why}"
        )
        self._feed.say(self.gap)

    @property
    def _size(self) -> int:
        return sum(told.size for told in self._told.values())

    def _is_all_recorded(self) -> bool:
        """Whether the engine surely has everything from the first line on."""
        return self._is_bounded and sum(told.cost for told in self._told.values()) < KEPT_BYTES

    def _ends_as_recorded(self) -> bool:
        last: dict[str, bytes] = {}
        for stream, payload in self._connection.read_log(self._container, follow=False, tail=1):
            last = {stream: last.get(stream, b"") + payload}
        return all(self._told[stream].ends_with(line) for stream, line in last.items())

    def _skip_told(self, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
        skips = {stream: _Skip(told) for stream, told in self._told.items()}
        for stream, payload in chunks:
            rest = skips[stream].cut(payload)
            if rest:
                yield stream, rest


class _Told:
    """What of a stream has been read so far."""

    __slots__ = ("cost", "lines", "partial", "size", "tail")

    def __init__(self) -> None:
        self.lines = 0
        self.partial = 0  # bytes of the line that has not ended
        self.size = 0
        self.cost = 0  # what the engine's record of it takes up at most
        self.tail = b""

    def add(self, payload: bytes) -> None:
        lines = payload.count(b"\n")
        self.lines += lines
        self.size += len(payload)
        odd = len(payload.translate(None, _PLAIN))
        self.cost += len(payload) + (_ODD_COST - 1) * odd + _LINE_COST * (lines + 1)
        rest = len(payload) - (payload.rfind(b"\n") + 1)
        self.partial = rest if lines else self.partial + rest
        self.tail = (self.tail + payload)[-_TAIL_BYTES:]

    def ends_with(self, line: bytes) -> bool:
        """Whether this is the last line. The engine ends each line that it records, records a
        long one in pieces, and replaces broken characters."""
        last, recorded = (
            _without_broken(text.removesuffix(b"\n"))
            for text in (self.tail.removesuffix(b"\n").rpartition(b"\n")[2], line)
        )
        is_piece = len(last) >= _LONG and last.endswith(recorded)
        return self.size > 0 and (last == recorded or is_piece)


class _Skip:
    """Cuts from a stream's record what had been told when this was made."""

    def __init__(self, told: _Told) -> None:
        self._lines, self._partial = told.lines, told.partial

    def cut(self, payload: bytes) -> bytes:
        if self._lines:
            lines = payload.count(b"\n")
            if lines < self._lines:
                self._lines -= lines
                return b""
            payload = payload.split(b"\n", self._lines)[-1]
            self._lines = 0
        if self._partial:
            skipped = min(self._partial, len(payload))
            self._partial -= skipped
            payload = payload[skipped:]
        return payload


def _without_broken(text: bytes) -> str:
    return text.decode("utf-8", "replace").replace("\ufffd", "")
