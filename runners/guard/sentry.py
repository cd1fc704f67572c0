"""The program of the guard process: ends what its owner started once the owner is gone or silent.

Its owner is a worker, or a command that keeps programs running. It sends messages over a pipe, one
per line:

    watch PGID                      a process group of a step   (forget PGID)
    program PID-STARTED STAGE SIGNAL:SECONDS,...  a program     (forget PID)
    folder PATH                     a directory of temporary files, removed at the end
    lease SILENCE_S GRACE_S MARK    steps end when no beat came for SILENCE_S; all bear MARK
    cells PATH                      the cgroups of steps are below it
    beat SECONDS                    the lease was renewed then
    away PLACE ATTEMPT              a step on an engine or in a cluster   (back ATTEMPT)
    engines JSON                    how to reach those

At the owner's end, steps get TERM and, GRACE_S later, KILL. Programs get their own signals, each
followed by its time, then KILL, stage after stage. A separate program, `runners.cleanup`, is then
started to end what is away. The pipe keeps its content when the writer dies, so with steps under
way the guard reads it only at intervals: a step does not wake it. Runs with `python -I -S` in its
own session; `guard.py` is the owner's side.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress

from runners.guard import strays

_LOOK_INTERVAL_S = 0.25
_READ_BYTES = 1 << 16
_CLEANUP_S = 60.0
_CLEANUP = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from runners import cleanup; cleanup.main()"
)


class Sentry:
    """Knows what one owner started, and when its last beat came."""

    def __init__(self, pipe: int, owner_fd: int | None, owner: str = "") -> None:
        self._pipe = pipe
        self._owner_fd = owner_fd
        self._mark: str | None = None
        self._silence_s = self._grace_s = 0.0
        self._groups: set[int] = set()
        self._cells = ""
        self._owner = int(owner.partition("-")[0] or 0)
        self._below: dict[int, int] = {}
        self._programs: dict[int, _Program] = {}
        self._folders: list[str] = []
        self._away: dict[str, str] = {}
        self._engines = ""
        self._beat = strays.read_clock()
        self._rest = b""
        self._is_over = False

    def run(self) -> None:
        """Watch until the owner closes the pipe or is gone; then end everything it started."""
        poll = select.poll()
        if self._owner_fd is not None:
            poll.register(self._owner_fd, select.POLLIN)
        while not self._is_over:
            # Without steps it sleeps until a message comes; with steps it wakes when the owner
            # ends, and at intervals.
            has_steps = bool(self._groups or self._away)
            poll.register(self._pipe, 0 if has_steps else select.POLLIN)
            events = poll.poll(_LOOK_INTERVAL_S * 1000 if has_steps else None)
            looked_at = strays.read_clock()  # before the pipe: this process may stand still between
            self._read()
            if any(fd == self._owner_fd for fd, _ in events):
                break
            self._remember()
            if (self._groups or self._away) and self._is_silent(looked_at):
                self._end_steps()
                self._groups.clear()
                self._away.clear()
        self._read()
        self._end_steps()
        if self._cells:
            strays.remove_cells(self._cells)
        for stage in sorted({program.stage for program in self._programs.values()}):
            _end([program for program in self._programs.values() if program.stage == stage])
        for folder in self._folders:
            _remove(folder)

    def _remember(self) -> None:
        """Without cgroups, know what descends from the owner and is no older than its steps: its
        orphans have no parent to tell once it is gone."""
        if not self._groups or self._cells or self._mark is None:
            return
        owner = strays.read_process(self._owner)
        steps = [process for group in self._groups if (process := strays.read_process(group))]
        if owner is None or not steps:
            return
        oldest = min(process.age for process in steps)
        # An owner that ends while we look has lost children by now: what is known of them counts.
        below = {
            pid: start for pid, start in self._below.items() if strays.is_alive(f"{pid}-{start}")
        }
        below |= strays.list_below(self._owner, owner.sid)
        self._below = {pid: start for pid, start in below.items() if (start, pid) >= oldest}

    def _is_silent(self, now: float) -> bool:
        return self._mark is not None and now - self._beat > self._silence_s

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
                self._take(os.fsdecode(message))

    def _take(self, message: str) -> None:
        match message.split():
            case ["watch", pgid]:
                self._groups.add(int(pgid))
            case ["program", identity, stage, signals]:
                program = _Program(identity, stage, signals)
                self._programs[program.pid] = program
            case ["forget", pid]:
                self._groups.discard(int(pid))
                self._programs.pop(int(pid), None)
            case ["folder", *_]:
                self._folders.append(message.partition(" ")[2])
            case ["lease", silence_s, grace_s, mark]:
                self._silence_s, self._grace_s, self._mark = float(silence_s), float(grace_s), mark
            case ["cells", *_]:
                self._cells = message.partition(" ")[2]
            case ["beat", seconds]:
                self._beat = max(self._beat, float(seconds))
            case ["away", place, attempt]:
                self._away[attempt] = place
            case ["back", attempt]:
                self._away.pop(attempt, None)
            case ["engines", *_]:
                self._engines = message.partition(" ")[2]

    def _end_steps(self) -> None:
        if self._mark is None:
            return
        cleanup = (
            _start_cleanup(self._engines, self._away) if self._away and self._engines else None
        )
        hunt = strays.Hunt(self._groups, keeper=self._mark, cell=self._cells or None)
        hunt.know(self._below)
        strays.end(hunt, self._grace_s)
        if cleanup is not None:
            _wait_for(cleanup)


class _Program:
    """A long-running program, identified by pid and start time, so that a reused pid is never
    hit."""

    def __init__(self, identity: str, stage: str, signals: str) -> None:
        self.identity = identity
        self.pid = int(identity.partition("-")[0])
        self.stage = int(stage)
        pairs = (pair.split(":") for pair in signals.split(","))
        self.signals = [(int(number), float(seconds)) for number, seconds in pairs]
        self.due = 0.0

    def has_its_number(self) -> bool:
        """Whether its pid is still its own, and so the group of that number."""
        return strays.identify(self.pid) in (self.identity, f"{self.pid}-0")

    def send_next(self) -> None:
        """Send the next signal and start its time; after the last one, KILL again and again."""
        number, seconds = self.signals.pop(0) if self.signals else (signal.SIGKILL, 1.0)
        self.due = time.monotonic() + seconds
        with suppress(OSError):
            os.kill(self.pid, number)


def _end(programs: list[_Program]) -> None:
    """End all at the same time, each by its own signals; then what is left in their groups."""
    while alive := [program for program in programs if strays.is_alive(program.identity)]:
        for program in alive:
            if time.monotonic() >= program.due:
                program.send_next()
        time.sleep(0.02)
    strays.send(signal.SIGKILL, (), [one.pid for one in programs if one.has_its_number()])


def _remove(folder: str) -> None:
    """Remove a directory, even if some inside are read-only, as copies of workspaces are."""
    import shutil  # costs memory while the guard waits

    for path, names, _ in os.walk(folder):
        for name in names:
            inner = os.path.join(path, name)
            if not os.path.islink(inner):
                with suppress(OSError):
                    os.chmod(inner, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _start_cleanup(engines: str, away: dict[str, str]) -> int:
    """Start the program that ends what is away; returns its pid."""
    # generated names: no quotes in them
    quoted = ", ".join(f'"{attempt}": "{place}"' for attempt, place in away.items())
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(reading, 0)
        os.execv(sys.executable, [sys.executable, "-I", "-c", _CLEANUP, sys.path[0]])  # noqa: S606  (nothing of an author's)
    os.close(reading)
    try:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(f'{{"worker": {engines}, "attempts": {{{quoted}}}}}'.encode())
    except OSError:
        pass  # it has died; what runs on this host must end nevertheless
    return pid


def _wait_for(pid: int) -> None:
    """Wait until the program has ended; kill it if it hangs."""
    deadline = strays.read_clock() + _CLEANUP_S
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        if strays.read_clock() > deadline:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return
        time.sleep(0.05)


def main(arguments: Sequence[str]) -> None:
    """Leave the owner's process tree, write our pid to the second pipe, then watch. The last
    argument shows in process lists whose guard this is."""
    pipe, ready, keeper = arguments
    owner = os.getppid()
    owner_fd = os.pidfd_open(owner) if hasattr(os, "pidfd_open") else None
    if os.fork():
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    os.set_blocking(int(pipe), False)
    with suppress(OSError):  # the owner is gone already, and its messages are in the pipe
        os.write(int(ready), f"{os.getpid()}\n".encode())
    os.close(int(ready))
    Sentry(int(pipe), owner_fd, keeper).run()
