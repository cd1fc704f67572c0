"""Follows the log of one container across broken connections, to its proven end: no line lost
unnoticed, none repeated."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3

from engine.orders import Limits
from engine.output import PREFIX, parse
from runners.lines import LineFeed, repair
from runners.pod.answers import ClusterAway, Refused
from runners.pod.cluster import Cluster, Outage, break_off
from runners.pod.config import PodConfig
from runners.pod.record import MARK_LINES
from runners.pod.spool import Spool
from runners.pod.told import Place, Told

READ_TIMEOUT_S = 3600.0
_PREFIX = PREFIX.encode()
# pauses before a new connection: growing while connections bring nothing
FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 2.0
MAX_REFUSALS = 5  # once the container has ended


@dataclass(frozen=True, slots=True)
class LogSource:
    """`end_mark`: the last line of a log that ends with one; `aside_mark`: how lines begin that are
    not told, but handed over. `began_at` and `ended_at` are by the
    node's clock, as far as they are known when the log is first asked for."""

    pod: str
    container: str
    end_mark: str | None = None
    began_at: float | None = None
    ended_at: float | None = None
    aside_mark: str | None = None


class LogFollower:
    """Feeds the lines of one container into `feed`, from a thread that reads and one that tells.
    Call `finish()` once the container has ended to read the rest.
    """

    def __init__(
        self,
        cluster: Cluster,
        config: PodConfig,
        source: LogSource,
        feed: LineFeed,
        limits: Limits,
        folder: Path,
        aside: Callable[[bytes], None] = lambda line: None,
    ) -> None:
        self.missing_right = False
        self.is_away = False  # given up, because the API server stayed away
        self.is_whole = False  # read to its end
        self._cluster = cluster
        self._config = config
        self._source = source
        self._place = Place(source.began_at, time.time())
        self._spool = Spool(folder)
        told = Told(source.began_at, source.ended_at)
        self._teller = _Teller(self._spool, feed, limits, source, told, aside)
        self._has_ended = threading.Event()
        self._is_closed = threading.Event()
        self._has_news = False  # since the last break
        self._received = 0
        self._response: Any = None
        self._threads = [
            threading.Thread(target=work, name=f"stroem-log-{source.container}", daemon=True)
            for work in (self._read, self._teller.run)
        ]

    @property
    def lines(self) -> int:
        """How many lines were told."""
        told = self._teller.told.count
        return told - MARK_LINES if self._teller.has_seen_end.is_set() else told

    @property
    def has_gap(self) -> bool:
        """Lines may be missing between those told."""
        return self._teller.told.gaps > 0

    @property
    def has_output_after_gap(self) -> bool:
        """An OUTPUT line came after the last place where lines may be missing."""
        return self._teller.has_output_after_gap

    @property
    def progress(self) -> tuple[int, int]:
        """Changes while something is read or told."""
        return self._received, self._spool.taken

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self, *, is_running: bool) -> None:
        """Read what the container has written up to now, then end."""
        self._has_ended.set()
        if is_running:  # its log would not end by itself
            break_off(self._response)

    def close(self) -> None:
        """End now, even with lines left."""
        self._is_closed.set()
        self._has_ended.set()
        break_off(self._response)
        self._spool.close(drop=True)

    def join(self, timeout_s: float) -> bool:
        """Whether it has ended."""
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))
        if any(thread.is_alive() for thread in self._threads):
            return False
        self._spool.remove()
        return True

    def _read(self) -> None:
        try:
            self._read_all()
        finally:
            self._spool.close()

    def _read_all(self) -> None:
        delay, refusals = FIRST_PAUSE_S, 0
        outage = Outage(self._config.outage_s)
        while not self._is_closed.is_set() and not self._teller.has_seen_end.is_set():
            is_last, began = self._has_ended.is_set(), time.monotonic()
            try:
                is_whole = self._read_once(follow=not is_last)
                outage.end()
            except Refused as refusal:
                self.missing_right = refusal.status == 403
                refusals += is_last
                if refusal.status in (403, 404) or refusals > MAX_REFUSALS:
                    return
                # 400: the container has not started yet, or its node does not answer
                is_whole = False
            except ClusterAway:
                if outage.note(began) <= 0 and is_last:
                    self.is_away = True
                    return
                is_whole = False
            if is_last and is_whole:
                self._spool.mark("end")
                self.is_whole = True
                return
            if is_whole and not self._has_ended.is_set():
                self._has_ended.wait(0.1)  # the status lags a moment behind the log
                continue
            if not is_whole:
                delay = FIRST_PAUSE_S if self._has_news else min(delay * 2, LAST_PAUSE_S)
                self._has_news = False
                self._is_closed.wait(delay)
        self.is_whole = self._teller.has_seen_end.is_set()

    def _read_once(self, *, follow: bool) -> bool:
        """Read one response; True when it ended properly."""
        response = self._cluster.read_log(
            self._source.pod,
            self._source.container,
            follow=follow,
            since_s=self._place.choose_since(time.time()),
            read_timeout_s=READ_TIMEOUT_S if follow else self._config.request_timeout_s,
        )
        self._response = response
        self._place.begin()
        self._spool.mark("begin", self._place.read_clock(time.time()))
        try:
            while chunk := response.read1(1 << 16):
                now = time.time()
                self._place.note(chunk, now)
                self._spool.put(chunk, self._place.read_clock(now))
                self._received += len(chunk)
                self._has_news = True
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            return False
        finally:
            self._response = None
            response.close()
            self._spool.mark("pause", self._place.read_clock(time.time()))
        return not self._is_closed.is_set()


class _Teller:
    """Takes bytes from the spool and tells the new lines in them."""

    def __init__(
        self,
        spool: Spool,
        feed: LineFeed,
        limits: Limits,
        source: LogSource,
        told: Told,
        aside: Callable[[bytes], None],
    ) -> None:
        self.told = told
        self.has_output_after_gap = False
        self.has_seen_end = threading.Event()
        self._spool = spool
        self._feed = feed
        self._end_mark = None if source.end_mark is None else source.end_mark.encode()
        self._aside_mark = None if source.aside_mark is None else source.aside_mark.encode()
        self._aside = aside
        self._longest = max(limits.output_bytes, limits.line_bytes) + (1 << 16)
        self._buffer = bytearray()
        self._new: list[bytes] = []
        self._came_at: float | None = None  # by the node's clock
        self._is_empty_line_held = False  # the end mark brings one that is not the step's

    def run(self) -> None:
        while (item := self._spool.take()) is not None:
            what, self._came_at = item
            if what == "begin":
                self._buffer.clear()
                self.told.begin(self._came_at)
            elif what == "pause":
                self.told.pause(self._came_at)
            elif what == "end":
                if self._buffer:
                    self._take(bytes(self._buffer), ends=False)
                self._tell()
                self.told.end()
            else:
                assert isinstance(what, bytes)
                self._buffer += what
                self._take_lines()
                self._tell()
        self._release()
        self._tell()

    def _take_lines(self) -> None:
        buffer = self._buffer
        end = buffer.rfind(b"\n")
        if end >= 0:
            for line in bytes(buffer[:end]).split(b"\n"):
                self._take(line, ends=True)
            del buffer[: end + 1]
        if len(buffer) > self._longest:
            del buffer[self._longest :]

    def _take(self, line: bytes, *, ends: bool) -> None:
        gaps = self.told.gaps
        text = self.told.take(line, self._came_at)
        if text is None:
            return
        if self.told.gaps > gaps:
            gaps, self.has_output_after_gap = self.told.gaps, False
        if self._end_mark is not None and text == self._end_mark:
            self._is_empty_line_held = False
            self.has_seen_end.set()
            return
        if self._aside_mark is not None and text.startswith(self._aside_mark):
            self._is_empty_line_held = False
            self._aside(text[len(self._aside_mark) :])
            return
        self._release()
        if not text and ends and self._end_mark is not None:
            self._is_empty_line_held = True
            return
        if gaps and text.startswith(_PREFIX):
            self.has_output_after_gap |= _is_output(text)
        self._new.append(text)
        if ends:
            self._new.append(b"\n")

    def _release(self) -> None:
        if self._is_empty_line_held:
            self._is_empty_line_held = False
            self._new.append(b"\n")

    def _tell(self) -> None:
        """All lines of a chunk at once, which costs half."""
        self._feed.feed("stdout", b"".join(self._new))
        self._new.clear()


def _is_output(line: bytes) -> bool:
    try:
        parse(repair(line).removeprefix(PREFIX))
    except ValueError:
        return False
    return True
