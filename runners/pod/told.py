"""Which lines of a log have been told already, and whether some in between were missed.

The server only offers "the last N seconds", by its own clock. So a new connection begins some
seconds before the last line seen, and lines already seen are skipped. If the last line seen is not
among them, the node has thrown it away, and perhaps others with it.

A connection that follows goes on in the newest file when its own has been rotated: a reader that
is late by a whole file misses it, which shows as a jump in the stamps. A kubelet looks at its logs
every ten seconds, at least every three if it is told so. So what was never later than that, and
what shows no such jump, has missed nothing.
"""

from __future__ import annotations

import calendar
import re
from collections import Counter
from functools import lru_cache

OVERLAP_S = 5.0
# below three seconds; clocks of nodes are told in whole ones
JUMP_S, LAG_S = 2.5, 1.5
LEAST_FILE_BYTES = 1_000_000
LATE_S = 5.0  # the first connection: what came before may have been rotated away
STAMP = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(Z|[+-]\d\d:\d\d) ?")


class Place:
    """Where the next connection must begin."""

    def __init__(self, seen: float | None = None, now: float = 0.0) -> None:
        """`seen`: a moment that has passed at `now`, by the node's clock."""
        self._last: float | None = None  # the newest stamp, by the node's clock
        # our clock minus the node's, at most
        self._skew = None if seen is None else now - seen
        self._is_at_line_start = True

    def note(self, data: bytes, now: float) -> None:
        """These bytes have arrived."""
        end = data.rfind(b"\n")
        start = data.rfind(b"\n", 0, max(end, 0)) + 1
        if start or self._is_at_line_start:
            at = read_stamp(data[start : start + 64])
            if at is not None:
                self._last = at if self._last is None else max(self._last, at)
                self._skew = now - at if self._skew is None else min(self._skew, now - at)
        self._is_at_line_start = end == len(data) - 1

    def begin(self) -> None:
        self._is_at_line_start = True

    def choose_since(self, now: float) -> int | None:
        """How many seconds back the next connection must begin; None for everything."""
        if self._last is None or self._skew is None:
            return None
        return max(1, int(now - self._skew - self._last) + 3)

    def read_clock(self, now: float) -> float | None:
        """What the node's clock says, at least."""
        return None if self._skew is None else now - self._skew


class Told:
    """Remembers the lines of the last seconds, and which of them a new connection has repeated."""

    def __init__(self, began_at: float | None = None, ended_at: float | None = None) -> None:
        """Of a container that began and, if so, ended then, by its node's clock."""
        self.count = 0
        self.gaps = 0
        self._last: float | None = None
        self._anchor: int | None = None  # the last line
        self._is_joined = True  # this connection goes on where the last one broke
        self._recent: list[tuple[float, int]] = []  # stamps and keys of the last seconds
        self._most = 1000
        self._to_skip: Counter[int] = Counter()
        self._quiet_until = began_at  # nothing was written before
        self._ended_at = ended_at
        self._connected_at: float | None = None
        self._lag = 0.0  # of the last line
        self._bytes = 0

    def begin(self, at: float | None = None) -> None:
        """A new connection begins, when the node's clock says `at`."""
        if self._anchor is not None:
            self._forget()
            self._is_joined = False
        elif self._quiet_until is not None and at is not None:
            self._is_joined = min(at, self._ended_at or at) - self._quiet_until <= LATE_S
        self._to_skip = Counter(key for _, key in self._recent)
        self._connected_at = at

    def pause(self, at: float | None) -> None:
        """A connection has ended, when the node's clock says `at`."""
        if self._anchor is None and self._is_joined and at is not None:
            self._quiet_until = at

    def end(self) -> None:
        """A connection has brought everything that there is."""
        if not self._is_joined:
            self._note_gap()

    def take(self, line: bytes, came_at: float | None = None) -> bytes | None:
        """The text of the line, without its stamp; None if it was told already. `came_at`: when it
        was received, by the node's clock."""
        found = STAMP.match(line)
        if found is None:
            self.count += 1
            return line
        at, key, last = _read_found(found), hash(line), self._last
        if last is not None and at < last - OVERLAP_S:
            return None
        if self._to_skip and self._to_skip.get(key):
            self._to_skip[key] -= 1
            self._is_joined = self._is_joined or key == self._anchor
            return None
        if not self._is_joined and self._is_first(at):
            self._is_joined = True
        elif not self._is_joined or (self._lag > LAG_S and self._has_jumped(at)):
            self._note_gap()
        self._lag = 0.0 if came_at is None else came_at - at
        self._bytes += len(line)
        self._remember(at, key)
        self.count += 1
        return line[found.end() :]

    def _note_gap(self) -> None:
        self._is_joined = True
        self.gaps += 1

    def _is_first(self, at: float) -> bool:
        """Whether a line, the first that was received, comes from the beginning."""
        quiet = self._quiet_until
        return self._last is None and quiet is not None and at - quiet <= JUMP_S

    def _has_jumped(self, at: float) -> bool:
        """Whether a file may be missing before this line. What was written before the connection
        began, or soon after, was in the file that it began with."""
        return (
            self._last is not None
            and at - self._last > JUMP_S
            and self._bytes > LEAST_FILE_BYTES
            and (self._connected_at is None or at - self._connected_at > JUMP_S)
        )

    def _remember(self, at: float, key: int) -> None:
        if self._last is None or at > self._last:
            self._last = at
        self._anchor = key
        self._recent.append((at, key))
        if len(self._recent) >= self._most:
            self._forget()

    def _forget(self) -> None:
        """Keep what a new connection may repeat."""
        assert self._last is not None
        oldest = self._last - OVERLAP_S - 1
        self._recent = [known for known in self._recent if known[0] >= oldest]
        self._most = max(1000, 2 * len(self._recent))


def read_stamp(line: bytes) -> float | None:
    """Seconds since the epoch of the timestamp at the start of a line."""
    found = STAMP.match(line)
    if found is None:
        return None
    return _read_found(found)


def _read_found(found: re.Match[bytes]) -> float:
    second, fraction, zone = found.groups()
    return _read_second(second, zone) + float(fraction or b"0")


@lru_cache(maxsize=64)
def _read_second(text: bytes, zone: bytes) -> int:
    year, month, day = int(text[:4]), int(text[5:7]), int(text[8:10])
    hour, minute, second = int(text[11:13]), int(text[14:16]), int(text[17:19])
    seconds = calendar.timegm((year, month, day, hour, minute, second))
    offset = 0 if zone == b"Z" else int(zone[:3]) * 3600 + int(zone[:1] + zone[4:6]) * 60
    return seconds - offset
