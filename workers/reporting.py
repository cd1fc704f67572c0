"""Log lines on their way to the ledger: masked, in numbered batches, kept while the database is
away.

A reporter takes a step's lines and never waits for the database; one pump per worker sends what is
older than half a second or fills a batch. The last batch travels with the finish. A step without
output costs nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from apps.jobs.ledger import Claim, Report
from engine.masking import LineMasker, masker
from engine.orders import Line
from workers.door import OUTAGES

log = logging.getLogger("stroem.worker")
BATCH_BYTES = 256 * 1024
BATCH_LINES = 5000
# of one attempt, while the database is away; further lines are counted and dropped
SPOOL_BYTES = 8 << 20
CROWDED_BYTES = 1 << 20  # unsent bytes beyond which the step's output waits a moment
PATIENCE_S = 1.0
OLDEST_S = 0.4  # plus the pump's rhythm: below half a second in all
RHYTHM_S = 0.1
HELD_S = 2.0  # how long a line may wait for the rest of a secret
LINE_COST = 80  # bytes of a line's record besides its text

# (claim, number, lines)
Append = Callable[[Claim, int, Sequence[Line]], bool]
Batch = tuple[int, tuple[Line, ...]]


@dataclass(frozen=True, slots=True)
class Ended:
    """The report of an attempt, with the log batches not yet sent."""

    report: Report
    batches: tuple[Batch, ...] = ()


class Reporter:
    """Takes the lines of one attempt, in order, from its slot's thread."""

    def __init__(self, claim: Claim, masks: tuple[str, ...], pump: LogPump) -> None:
        """`masks`: the values to hide."""
        self.claim = claim
        self._pump = pump
        self._lock = threading.Condition()
        self._masker = LineMasker(masker(masks)) if masks else None
        self._lines: list[Line] = []
        self._bytes = 0
        self._since = 0.0
        self._batches: deque[tuple[Batch, int]] = deque()
        self._waiting_bytes = 0
        self._next_seq = 1
        self._dropped = 0
        self._sending = threading.Lock()
        self._is_away = False
        self._is_refused = False
        self._is_known = False

    def __call__(self, line: Line) -> None:
        with self._lock:
            for shown in (line,) if self._masker is None else self._masker.feed(line):
                self._keep(shown)
            if not self._is_known:
                self._is_known = True
                self._pump.add(self)
            if self._waiting_bytes > CROWDED_BYTES and not self._is_away:
                self._pump.hurry()
                self._lock.wait_for(
                    lambda: self._waiting_bytes <= CROWDED_BYTES or self._is_away, PATIENCE_S
                )

    def say(self, text: str) -> None:
        """Add a line from the worker itself."""
        self(Line(time.time(), "server", text))

    def close(self) -> tuple[Batch, ...]:
        """The batches not yet sent, in order; the pump sends nothing more."""
        if self._is_known:
            self._pump.discard(self)
        with self._sending, self._lock:
            self._release()
            self._note_dropped()
            self._cut()
            return () if self._is_refused else tuple(batch for batch, _ in self._batches)

    def flush(self, append: Append) -> None:
        """Send everything now. If `append` raises, so does this; nothing is lost or sent twice."""
        with self._sending:
            with self._lock:
                self._release()
                self._cut()
            self._send(append)

    def send_due(self, append: Append, now: float) -> None:
        """Send what has waited long enough. If `append` raises, so does this; nothing is lost or
        sent twice."""
        with self._sending:
            with self._lock:
                held_since = None if self._masker is None else self._masker.oldest
                if held_since is not None and time.time() - held_since > HELD_S:
                    self._release()
                if self._lines and now - self._since >= OLDEST_S:
                    self._cut()
            self._send(append)

    def _send(self, append: Append) -> None:
        while self._batches:
            (seq, lines), size = self._batches[0]
            try:
                is_ours = append(self.claim, seq, lines)
            except OUTAGES:
                self._is_away = True
                raise
            except Exception:
                log.exception("storing a batch of log lines failed")
                self._dropped += len(lines)
                is_ours = True
            with self._lock:
                self._is_away = False
                self._batches.popleft()
                self._waiting_bytes -= size
                if not is_ours:
                    self._forget()
                self._note_dropped()
                self._lock.notify_all()

    def _release(self) -> None:
        """Take what waits for the rest of a secret."""
        for shown in () if self._masker is None else self._masker.release():
            self._keep(shown)

    def _keep(self, line: Line) -> None:
        size = len(line.text) + LINE_COST
        if self._is_refused:
            return
        if self._waiting_bytes + self._bytes + size > SPOOL_BYTES:
            self._dropped += 1
            return
        if not self._lines:
            self._since = time.monotonic()
        self._lines.append(line)
        self._bytes += size
        if self._bytes >= BATCH_BYTES or len(self._lines) >= BATCH_LINES:
            self._cut()

    def _cut(self) -> None:
        if self._lines:
            self._batches.append(((self._next_seq, tuple(self._lines)), self._bytes))
            self._waiting_bytes += self._bytes
            self._next_seq += 1
            self._lines, self._bytes = [], 0

    def _note_dropped(self) -> None:
        if self._dropped:
            count, self._dropped = self._dropped, 0
            text = f"{count} lines were dropped here: the database could not take them in time"
            self._lines.append(Line(time.time(), "server", text))
            self._bytes += len(text) + LINE_COST

    def _forget(self) -> None:
        """Drop all lines: the attempt is no longer ours."""
        self._is_refused = True
        self._batches.clear()
        self._lines, self._bytes, self._waiting_bytes = [], 0, 0


class LogPump(threading.Thread):
    """The thread that sends the log batches of all running attempts."""

    def __init__(self, append: Append, released: Callable[[], None]) -> None:
        super().__init__(name="logs", daemon=True)
        self._append = append
        self._released = released
        self._lock = threading.Lock()
        self._open: dict[Reporter, None] = {}
        self._wake = threading.Event()
        self._is_asleep = True
        self._is_closed = False
        self._pause_s = 0.0

    def add(self, reporter: Reporter) -> None:
        with self._lock:
            self._open[reporter] = None
            if self._is_asleep:
                self._is_asleep = False
                self._wake.set()

    def discard(self, reporter: Reporter) -> None:
        with self._lock:
            self._open.pop(reporter, None)

    def hurry(self) -> None:
        self._wake.set()

    def close(self) -> None:
        self._is_closed = True
        self._wake.set()

    def run(self) -> None:
        while not self._is_closed:
            with self._lock:
                self._is_asleep = not self._open
                reporters = list(self._open)
            if not reporters:
                self._released()
                self._wake.wait()
                self._wake.clear()
                continue
            self._round(reporters)
            self._wake.wait(RHYTHM_S + self._pause_s)
            self._wake.clear()
        self._released()

    def _round(self, reporters: Sequence[Reporter]) -> None:
        for reporter in reporters:
            try:
                reporter.send_due(self._append, time.monotonic())
                self._pause_s = 0.0
            except OUTAGES as error:
                if not self._pause_s:
                    log.warning(
                        "log lines wait: the database does not answer (%s)", type(error).__name__
                    )
                self._pause_s = min(2.0, self._pause_s * 2 or 0.2)
                return
