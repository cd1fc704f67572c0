"""The program of the guard process: ends a worker's steps when the worker dies or falls silent.

Told over a pipe, one line a message:  w PGID ATTEMPT  (watch)    f PGID  (forget)    b SECONDS  (beat)    q  (quit).
The pipe is a ledger that outlives its writer, so it is read now and then only: a step wakes nobody. Runs with
`python -I -S`, without Django, in a session of its own; Guard in `guard.py` is the worker's side.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Sequence

from runners import strays

_LOOK_INTERVAL_S = 0.25
_READ_BYTES = 1 << 16


def read_clock() -> float:
    """Seconds on the clock that worker and guard share; it runs on while the machine sleeps, as leases do."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Sentry:
    """Knows the groups of one worker, and when it was last heard."""

    def __init__(self, pipe: int, worker_fd: int | None, keeper: str, silence_s: float, grace_s: float) -> None:
        self._pipe = pipe
        self._worker_fd = worker_fd
        self._keeper = keeper
        self._silence_s = silence_s
        self._grace_s = grace_s
        self._groups: dict[int, str] = {}
        self._beat = read_clock()
        self._rest = b""
        self._is_over = False

    def run(self) -> None:
        """Watch until the worker says goodbye or is gone; then leave nothing of it running."""
        poll = select.poll()
        if self._worker_fd is not None:
            poll.register(self._worker_fd, select.POLLIN)
        while not self._is_over:
            # With nothing to watch it sleeps until told; else it wakes for the worker's end, and for the time.
            poll.register(self._pipe, 0 if self._groups else select.POLLIN)
            events = poll.poll(_LOOK_INTERVAL_S * 1000 if self._groups else None)
            self._read()
            if any(fd == self._worker_fd for fd, _ in events):
                break
            if self._groups and read_clock() - self._beat > self._silence_s:
                self._end_all()
                self._groups.clear()
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
            case ["b", seconds]:
                self._beat = max(self._beat, float(seconds))
            case ["q"]:
                self._is_over = True

    def _end_all(self) -> None:
        strays.end(strays.Hunt(self._groups, keeper=self._keeper), self._grace_s)


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
