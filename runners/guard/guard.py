"""The worker's side of its guard: one small process that ends the steps when the worker cannot.

A worker that dies takes its word with it, but not its children; a worker that is stopped, or cut
off from the database, holds leases that run out. The guard is told of every process group. It ends
them all when the worker's end of the pipe closes, or when no beat came for the lease less a margin.
Between the start of a process and its `watch` lies a moment in which a killed worker could not have
told; the environment mark closes it (see `strays`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import subprocess
import sys
import threading
from pathlib import Path

from engine.errors import PlatformError
from runners.guard import sentry, strays

_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from runners.guard import sentry;"
    " sentry.main(sys.argv[1:])"
)
_PIPE_BYTES = 1 << 20
_PATIENCE_S = 2.0
_START_S = 30.0


class Guard:
    """One a worker process; `start` it before any step. Every method may be called from any
    thread."""

    def __init__(self, lease_s: float, margin_s: float) -> None:
        if not 0 < margin_s < lease_s:
            raise ValueError("the guard's margin must lie between 0 and the lease")
        self.silence_s = lease_s - margin_s
        self._grace_s = min(5.0, margin_s / 2)
        self._lock = threading.Lock()
        self._groups: dict[int, str] = {}
        self._away: dict[str, str] = {}  # attempt to place
        self._engines = ""
        self._pipe: int | None = None
        self._beat = sentry.read_clock()
        self._lapsed_at = 0.0
        self.keeper = strays.identify(os.getpid())  # marks every process this guard answers for
        self.pid = 0

    def has_ended_steps_since(self, moment: float) -> bool:
        """Whether beats stayed away for so long, at some time after `moment` (on
        `sentry.read_clock`), that the guard took the steps down. A beat that comes too late does
        not undo it."""
        return max(self._lapsed_at, sentry.read_clock() if self._is_late() else 0.0) > moment

    def _is_late(self) -> bool:
        return sentry.read_clock() - self._beat > self.silence_s

    def start(self) -> None:
        """Start the guard process; returns when it watches. Counts as a beat."""
        with self._lock:
            if self._pipe is None:
                self._beat = sentry.read_clock()
                self._launch()

    def watch(self, pgid: int, attempt: str) -> None:
        """Answer for this process group from now on."""
        with self._lock:
            self._groups[pgid] = attempt
            self._tell(f"w {pgid} {attempt}\n")

    def forget(self, pgid: int) -> None:
        """The group is gone; its number may be used again."""
        with self._lock:
            self._groups.pop(pgid, None)
            self._tell(f"f {pgid}\n")

    def know_engines(self, described: str) -> None:
        """How to reach what `watch_away` is about: see `runners.broom.describe`. Before the first
        of those calls."""
        with self._lock:
            self._engines = described
            self._tell(f"e {described}\n")

    def watch_away(self, place: str, attempt: str) -> None:
        """Answer for what this attempt has on an engine or in a cluster from now on."""
        with self._lock:
            self._away[attempt] = place
            self._tell(f"a {place} {attempt}\n")

    def forget_away(self, attempt: str) -> None:
        """Nothing of it is there any more, or somebody else answers for what is."""
        with self._lock:
            self._away.pop(attempt, None)
            self._tell(f"r {attempt}\n")

    def beat(self) -> None:
        """The leases were renewed just now. Call it after each renewal that the database
        confirmed."""
        with self._lock:
            if self._is_late():
                self._lapsed_at = sentry.read_clock()
            self._beat = sentry.read_clock()
            self._tell(f"b {self._beat:.3f}\n")

    def close(self) -> None:
        """End the guard process, and with it whatever it still watches."""
        with self._lock:
            if self._pipe is None:
                return
            pipe, self._pipe = self._pipe, None
            os.close(pipe)

    def _tell(self, message: str) -> None:
        """Write one message; a guard that was killed, or does not read, is replaced and told
        everything again."""
        if self._pipe is None:
            return
        try:
            os.write(self._pipe, message.encode())
            return
        except BlockingIOError:
            if select.select([], [self._pipe], [], _PATIENCE_S)[1] and self._try_again(message):
                return
        except OSError as error:
            if error.errno != errno.EPIPE:
                raise
        os.close(self._pipe)
        self._launch()
        known = [f"w {pgid} {attempt}\n" for pgid, attempt in self._groups.items()]
        known += [f"e {self._engines}\n"] if self._engines else []
        known += [f"a {place} {attempt}\n" for attempt, place in self._away.items()]
        for line in (*known, f"b {self._beat:.3f}\n"):
            os.write(self._pipe, line.encode())

    def _try_again(self, message: str) -> bool:
        assert self._pipe is not None
        try:
            return os.write(self._pipe, message.encode()) > 0
        except OSError:
            return False

    def _launch(self) -> None:
        reading, writing = os.pipe()
        ready, done = os.pipe()
        arguments = [
            str(value) for value in (reading, done, self.silence_s, self._grace_s, self.keeper)
        ]
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, str(_ROOT), *arguments],
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(reading, done),
            )
        except OSError as error:
            os.close(writing)
            raise PlatformError(f"the guard process could not be started: {error}") from error
        finally:
            os.close(reading)
            os.close(done)
        name = b""
        with os.fdopen(ready, "rb") as answer:
            if select.select([answer], [], [], _START_S)[0]:
                name = answer.readline()
        process.wait(_START_S)
        if not name.strip():
            os.close(writing)
            raise PlatformError("the guard process ended while it started")
        self.pid = int(name)
        _widen(writing)
        os.set_blocking(writing, False)
        self._pipe = writing


def _widen(pipe: int) -> None:
    """A ledger that is read four times a second must hold what a busy worker writes meanwhile."""
    set_size = getattr(fcntl, "F_SETPIPE_SZ", None)
    if set_size is not None:
        try:
            fcntl.fcntl(pipe, set_size, _PIPE_BYTES)
        except OSError:
            return  # the default of 64 KiB holds about 800 steps
