"""The program of the guard process: ends a worker's steps when the worker dies or falls silent.

Told over a pipe, one line a message:  w PGID ATTEMPT  (watch)    f PGID  (forget)    b SECONDS
(beat)    q  (quit) a PLACE ATTEMPT  (it is away, on an engine or in a cluster)    r ATTEMPT
(returned)    e JSON  (how to reach engines) What is away is ended by a program of its own,
`runners.broom`, which is started only then. The pipe is a ledger that outlives its writer, so it is
read now and then only: a step wakes nobody. Runs with `python -I -S`, without Django, in a session
of its own; Guard in `guard.py` is the worker's side.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Sequence

from runners.guard import strays

_LOOK_INTERVAL_S = 0.25
_READ_BYTES = 1 << 16
_BROOM_S = 60.0
_BROOM = "import sys; sys.path.insert(0, sys.argv.pop(1)); from runners import broom; broom.main()"


def read_clock() -> float:
    """Seconds on the clock that worker and guard share; it runs on while the machine sleeps, as
    leases do."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Sentry:
    """Knows the groups of one worker, and when it was last heard."""

    def __init__(
        self, pipe: int, worker_fd: int | None, keeper: str, silence_s: float, grace_s: float
    ) -> None:
        self._pipe = pipe
        self._worker_fd = worker_fd
        self._keeper = keeper
        self._silence_s = silence_s
        self._grace_s = grace_s
        self._groups: dict[int, str] = {}
        self._away: dict[str, str] = {}
        self._engines = ""
        self._beat = read_clock()
        self._rest = b""
        self._is_over = False

    def run(self) -> None:
        """Watch until the worker says goodbye or is gone; then leave nothing of it running."""
        poll = select.poll()
        if self._worker_fd is not None:
            poll.register(self._worker_fd, select.POLLIN)
        while not self._is_over:
            # With nothing to watch it sleeps until told; else it wakes for the worker's end, and
            # for the time.
            has_work = bool(self._groups or self._away)
            poll.register(self._pipe, 0 if has_work else select.POLLIN)
            events = poll.poll(_LOOK_INTERVAL_S * 1000 if has_work else None)
            self._read()
            if any(fd == self._worker_fd for fd, _ in events):
                break
            if (self._groups or self._away) and read_clock() - self._beat > self._silence_s:
                self._end_all()
                self._groups.clear()
                self._away.clear()
        self._read()
        self._end_all()

    def _read(self) -> None:
        while not self._is_over:
            try:
                data = os.read(self._pipe, _READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                self._is_over = True
                return
            *messages, self._rest = (self._rest + data).split(b"\n")
            for message in messages:
                self._take(message.decode())

    def _take(self, message: str) -> None:
        match message.split():
            case ["w", pgid, attempt]:
                self._groups[int(pgid)] = attempt
            case ["f", pgid]:
                self._groups.pop(int(pgid), None)
            case ["a", place, attempt]:
                self._away[attempt] = place
            case ["r", attempt]:
                self._away.pop(attempt, None)
            case ["e", *_]:
                self._engines = message[2:]
            case ["b", seconds]:
                self._beat = max(self._beat, float(seconds))
            case ["q"]:
                self._is_over = True

    def _end_all(self) -> None:
        broom = _start_broom(self._engines, self._away) if self._away and self._engines else None
        strays.end(strays.Hunt(self._groups, keeper=self._keeper), self._grace_s)
        if broom is not None:
            _wait_for(broom)


def _start_broom(engines: str, away: dict[str, str]) -> int:
    """The pid of the program that ends what is away."""
    # names of ours: no quotes in them
    quoted = ", ".join(f'"{attempt}": "{place}"' for attempt, place in away.items())
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(reading, 0)
        os.execv(sys.executable, [sys.executable, "-I", "-c", _BROOM, sys.path[0]])  # noqa: S606  (nothing of an author's)
    os.close(reading)
    try:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(f'{{"worker": {engines}, "attempts": {{{quoted}}}}}'.encode())
    except OSError:
        pass  # it has died; what is on this host must end all the same
    return pid


def _wait_for(pid: int) -> None:
    """Until the program has ended; one that hangs is killed."""
    deadline = read_clock() + _BROOM_S
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if read_clock() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.05)


def main(arguments: Sequence[str]) -> None:
    """Leave the worker's process tree, tell our number on the second pipe, then watch."""
    pipe, ready, silence_s, grace_s, keeper = arguments
    worker = os.getppid()
    worker_fd = os.pidfd_open(worker) if hasattr(os, "pidfd_open") else None
    if os.fork():
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    os.set_blocking(int(pipe), False)
    os.write(int(ready), f"{os.getpid()}\n".encode())
    os.close(int(ready))
    Sentry(int(pipe), worker_fd, keeper, float(silence_s), float(grace_s)).run()
