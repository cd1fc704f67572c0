"""Follows the log of one container across broken connections: no line lost, none repeated.

The server only offers "the last N seconds", by its own clock. So lines are requested with
timestamps, a new connection begins some seconds before the last line seen, and lines already seen
are skipped.
"""

from __future__ import annotations

import calendar
import re
import threading
import time
from collections import Counter
from typing import Any

import urllib3

from engine.orders import Limits
from runners.lines import LineFeed
from runners.pod.cluster import Cluster, ClusterAway, Refused, break_off
from runners.pod.config import PodConfig

OVERLAP_S = 5.0
READ_TIMEOUT_S = 3600.0
# pauses before a new connection: growing while connections bring nothing
FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 2.0
MAX_REFUSALS = 5  # once the container has ended
_STAMP = re.compile(rb"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d) ?")


class LogFollower(threading.Thread):
    """Feeds the lines of one container into `feed`. Call `finish()` once the container has ended to
    read the rest."""

    def __init__(
        self,
        cluster: Cluster,
        config: PodConfig,
        pod: str,
        container: str,
        feed: LineFeed,
        limits: Limits,
    ) -> None:
        super().__init__(name=f"stroem-log-{container}", daemon=True)
        self.missing_right = False
        self._cluster = cluster
        self._config = config
        self._pod = pod
        self._container = container
        self._feed = feed
        self._told = _Told()
        self._longest = max(limits.output_bytes, limits.line_bytes) + (1 << 16)
        self._has_ended = threading.Event()
        self._is_closed = threading.Event()
        self._has_news = False  # since the last break
        self._response: Any = None

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

    def run(self) -> None:
        delay, refusals = FIRST_PAUSE_S, 0
        while not self._is_closed.is_set():
            is_last = self._has_ended.is_set()
            try:
                is_whole = self._read_once(follow=not is_last)
            except Refused as refusal:
                if refusal.status == 403:
                    self.missing_right = True
                    return
                refusals += is_last
                if refusal.status == 404 or refusals > MAX_REFUSALS:
                    return
                # 400: the container has not started yet, or its node does not answer
                is_whole = False
            except ClusterAway:
                is_whole = False
            if is_last and is_whole:
                return
            if is_whole and not self._has_ended.is_set():
                self._has_ended.wait(0.1)  # the status lags a moment behind the log
                continue
            if not is_whole:
                delay = FIRST_PAUSE_S if self._has_news else min(delay * 2, LAST_PAUSE_S)
                self._has_news = False
                self._is_closed.wait(delay)

    def _read_once(self, *, follow: bool) -> bool:
        """Read one response; True when it ended properly."""
        response = self._cluster.read_log(
            self._pod,
            self._container,
            follow=follow,
            since_s=self._told.choose_since(time.time()),
            read_timeout_s=READ_TIMEOUT_S if follow else self._config.request_timeout_s,
        )
        self._response = response
        self._told.begin()
        buffer = bytearray()
        try:
            while chunk := response.read1(1 << 16):
                buffer += chunk
                self._take_lines(buffer)
            if buffer and not follow:
                self._take(bytes(buffer), ends=False)
        except (urllib3.exceptions.HTTPError, OSError, ValueError):
            return False
        finally:
            self._response = None
            response.close()
        return not self._is_closed.is_set()

    def _take_lines(self, buffer: bytearray) -> None:
        end = buffer.rfind(b"\n")
        if end >= 0:
            for line in bytes(buffer[:end]).split(b"\n"):
                self._take(line, ends=True)
            del buffer[: end + 1]
        if len(buffer) > self._longest:
            del buffer[self._longest :]

    def _take(self, line: bytes, *, ends: bool) -> None:
        if self._told.is_new(line, time.time()):
            self._has_news = True
            found = _STAMP.match(line)
            self._feed.feed(
                "stdout", (line[found.end() :] if found else line) + (b"\n" if ends else b"")
            )


class _Told:
    """Remembers the lines of the last seconds, and which of them a new connection has repeated."""

    def __init__(self) -> None:
        self._last: float | None = None  # the newest timestamp, by the server's clock
        self._skew: float | None = None  # our clock minus the server's, at most
        self._recent: Counter[int] = Counter()
        self._stamps: list[tuple[float, int]] = []
        self._to_skip: Counter[int] = Counter()

    def choose_since(self, now: float) -> int | None:
        """How many seconds back the next connection must begin; None for everything."""
        if self._last is None or self._skew is None:
            return None
        return max(1, int(now - self._skew - self._last) + 3)

    def begin(self) -> None:
        self._to_skip = Counter(self._recent)

    def is_new(self, line: bytes, now: float) -> bool:
        at = read_stamp(line)
        if at is None:
            return True
        key = hash(line)
        if self._last is not None and at < self._last - OVERLAP_S:
            return False
        if self._to_skip.get(key):
            self._to_skip[key] -= 1
            return False
        self._remember(at, key)
        self._skew = now - at if self._skew is None else min(self._skew, now - at)
        return True

    def _remember(self, at: float, key: int) -> None:
        if self._last is None or at > self._last:
            self._last = at
        self._recent[key] += 1
        self._stamps.append((at, key))
        if (
            len(self._stamps) > 1000
            and self._stamps[len(self._stamps) // 2][0] < self._last - OVERLAP_S - 1
        ):
            self._forget(self._last - OVERLAP_S - 1)

    def _forget(self, before: float) -> None:
        kept = []
        for at, key in self._stamps:
            if at >= before:
                kept.append((at, key))
                continue
            self._recent[key] -= 1
            if self._recent[key] <= 0:
                del self._recent[key]
        self._stamps = kept


def read_stamp(line: bytes) -> float | None:
    """Seconds since the epoch of the timestamp at the start of a line."""
    found = _STAMP.match(line)
    if found is None:
        return None
    year, month, day, hour, minute, second = (int(found[index]) for index in range(1, 7))
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    zone = found[8]
    offset = 0 if zone == b"Z" else int(zone[:3]) * 3600 + int(zone[:1] + zone[4:6]) * 60
    return seconds - offset + float(found[7] or b"0")
