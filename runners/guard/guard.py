"""The owner's side of its guard: a small process that ends what the owner started when the owner
cannot.

The children of an owner outlive it; the leases of a worker that is stopped, or cut off from the
database, run out. The owner reports every process group and program to the guard. The guard ends
them all when the owner's end of the pipe closes, and steps also when no beat came for the lease
less a margin. A worker may be killed between the start of a step's process and its `watch`; the
environment mark closes that gap (see `strays`).
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from engine.errors import PlatformError
from runners.guard import offspring, strays

log = logging.getLogger(__name__)
_ROOT = Path(__file__).resolve().parents[2]
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from runners.guard import sentry;"
    " sentry.main(sys.argv[1:])"
)
_PIPE_BYTES = 1 << 20
_PATIENCE_S = 2.0
_START_S = 30.0
_turns = itertools.count()


class GuardProcess:
    """A guard process and the messages sent to it. Thread-safe."""

    def __init__(self, keep_open: tuple[int, ...] = (), turn: int = 0) -> None:
        """`keep_open`: descriptors that the guard holds too, such as a lock that must outlast the
        watched processes. `turn`: see `strays.identify_keeper`."""
        self.keeper = strays.identify_keeper(os.getpid(), turn)  # whom this guard watches for
        self._keep_open = keep_open
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}  # key -> message; all that still apply
        self._is_open = False
        self._pipe: int | None = None
        self._identity = ""
        self._group = 0  # of the guard's process and of what it starts
        self._starting: tuple[subprocess.Popen[bytes], int] | None = None
        self._launched_at = 0.0

    @property
    def pid(self) -> int:
        """The pid of the guard process once it watches; 0 before launch."""
        with self._lock:
            self._greet(_START_S)
        return int(self._identity.partition("-")[0] or 0)

    def launch(self) -> None:
        """Start the guard process unless it runs; messages may be sent at once and are read
        later."""
        with self._lock:
            if not self._is_open:
                self._launch()

    def watch_program(self, pid: int, stage: int, ending: Iterable[tuple[int, float]]) -> None:
        """Watch this child: at the end it gets each signal of `ending`, followed by a wait of its
        seconds, after the programs of lower stages have ended."""
        signals = ",".join(f"{int(number)}:{seconds}" for number, seconds in ending)
        self._note(str(pid), f"program {strays.identify(pid)} {stage} {signals}")

    def remove_at_end(self, folder: Path) -> None:
        """Remove `folder` when this process is gone and its programs have ended."""
        self._note(str(folder), f"folder {folder}")

    def forget(self, pid: int) -> None:
        """The process or group is gone; its number may be reused."""
        self._drop(str(pid), f"forget {pid}")

    def beat(self) -> None:
        """Replace the guard if it was killed or stopped."""
        with self._lock:
            self._pulse(f"beat {strays.read_clock():.3f}")

    def close(self) -> None:
        """End the guard process and everything it still watches."""
        with self._lock:
            self._is_open = False
            self._hang_up()
            self._send(signal.SIGCONT)  # one that was stopped would end nothing

    def wait(self) -> None:
        """Wait until a closed guard has ended everything it watched."""
        with self._lock, suppress(PlatformError):
            self._greet(_START_S)
        while self._send(signal.SIGCONT):
            time.sleep(0.01)

    def _note(self, key: str, message: str) -> None:
        with self._lock:
            self._known[key] = message
            self._tell(message)

    def _drop(self, key: str, message: str) -> None:
        with self._lock:
            if self._known.pop(key, None) is not None:
                self._tell(message)

    def _pulse(self, message: str) -> None:
        """Send a beat. The pipe takes the messages of hours before it is full, so a guard that was
        stopped is looked for here."""
        if self._is_open and self._stands_still():
            log.warning("the guard process was stopped: it is ended, and another one watches")
            self._begin()
        self._tell(message)

    def _stands_still(self) -> bool:
        with suppress(PlatformError):  # one that died while it started is replaced by `_tell`
            self._greet(0.0)
        if self._starting is not None:
            return time.monotonic() - self._launched_at > _START_S
        process = strays.read_process(int(self._identity.partition("-")[0] or 0))
        return process is not None and process.state in "Tt"

    def _tell(self, message: str) -> None:
        """Send one message; a guard that was killed or does not read is replaced and gets all
        messages again."""
        if not self._is_open:
            return
        if self._starting is not None:
            self._greet(0.0)
        if not self._write(message):
            self._begin()

    def _write(self, message: str) -> bool:
        """False when the guard does not read it."""
        if self._pipe is None:
            return False
        rest = memoryview(os.fsencode(f"{message}\n"))
        while rest:
            try:
                rest = rest[os.write(self._pipe, rest) :]
            except BlockingIOError:
                if not select.select([], [self._pipe], [], _PATIENCE_S)[1]:
                    return False
            except BrokenPipeError:
                return False
        return True

    def _hang_up(self) -> None:
        if self._pipe is not None:
            os.close(self._pipe)
            self._pipe = None

    def _begin(self) -> None:
        """Launch a guard, wait until it watches and send it all messages."""
        self._abandon()
        self._launch()
        self._greet(_START_S)
        for message in self._known.values():
            if not self._write(message):
                self._abandon()
                raise PlatformError("the guard process does not read what it is told")

    def _abandon(self) -> None:
        """Kill the guard, if there is one, before its pipe closes. One that was only stopped would
        see that later, and end what the next one watches."""
        if self._starting is not None:
            process, ready = self._starting
            self._starting = None
            os.close(ready)
            self._kill(process)
        elif self._send(signal.SIGKILL):
            deadline = time.monotonic() + _PATIENCE_S
            while strays.is_alive(self._identity) and time.monotonic() < deadline:
                time.sleep(0.001)
            self._reap()
        self._hang_up()

    def _send(self, number: signal.Signals) -> bool:
        """False when the guard is gone: its numbers may be another's."""
        if not strays.is_alive(self._identity):
            return False
        strays.send(number, (), (self._group,))
        return True

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        """End one that has not said yet that it watches, and what it has forked."""
        strays.send(signal.SIGKILL, (), (process.pid,))
        process.wait()
        self._reap()

    def _reap(self) -> None:
        """Dead guards are ours where this process adopts orphans."""
        with suppress(ChildProcessError):
            while os.waitpid(-self._group, os.WNOHANG)[0]:
                pass

    def _launch(self) -> None:
        reading, writing = os.pipe()
        ready, done = os.pipe()
        arguments = [str(reading), str(done), self.keeper]
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _PROGRAM, str(_ROOT), *arguments],
                env={},
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=(reading, done, *self._keep_open),
            )
        except OSError as error:
            os.close(writing)
            os.close(ready)
            raise PlatformError(f"the guard process could not be started: {error}") from error
        finally:
            os.close(reading)
            os.close(done)
        strays.guards.add(process.pid)
        self._identity, self._group = "", process.pid
        _widen(writing)
        os.set_blocking(writing, False)
        self._is_open, self._pipe, self._starting = True, writing, (process, ready)
        self._launched_at = time.monotonic()

    def _greet(self, patience_s: float) -> None:
        """Learn the pid of a launched guard as soon as it watches."""
        if self._starting is None:
            return
        process, ready = self._starting
        has_answered = select.select([ready], [], [], patience_s)[0]
        if not has_answered and not patience_s:
            return
        self._starting = None
        with os.fdopen(ready, "rb") as answer:
            name = answer.readline().strip() if has_answered else b""
        if not name:
            self._kill(process)
            self._hang_up()
            raise PlatformError("the guard process ended or stood still while it started")
        process.wait(_START_S)
        self._identity = strays.identify(int(name))


class Guard(GuardProcess):
    """A worker's guard, one per worker process; `start` it before any step."""

    def __init__(self, lease_s: float, margin_s: float) -> None:
        if not 0 < margin_s < lease_s:
            raise ValueError("the guard's margin must lie between 0 and the lease")
        # One that closes, in its own time, ends what bears its name: nothing of the next one's.
        super().__init__(turn=next(_turns))
        self.silence_s = lease_s - margin_s
        grace_s = min(5.0, margin_s / 2)
        # every watched process carries the keeper's mark
        self._known["lease"] = f"lease {self.silence_s} {grace_s} {self.keeper}"
        self._beat = strays.read_clock()
        self._lapsed_at = 0.0
        self.cells: offspring.Cells | None = None  # a cgroup for each step, once started

    def has_ended_steps_since(self, moment: float) -> bool:
        """Whether, at some time after `moment` (on `strays.read_clock`), beats were missing for so
        long that the guard ended the steps. A late beat does not undo that."""
        return max(self._lapsed_at, strays.read_clock() if self._is_late() else 0.0) > moment

    def _is_late(self) -> bool:
        return strays.read_clock() - self._beat > self.silence_s

    def start(self) -> None:
        """Start the guard process and wait until it watches. Counts as a beat."""
        with self._lock:
            if self._is_open:
                return
            self._begin()
            self._note_beat()
        self.cells = offspring.make_cells(self.keeper)
        if self.cells is not None:
            self._note("cells", f"cells {self.cells.root}")

    def close(self) -> None:
        super().close()
        if self.cells is not None:
            self.cells.close()

    def watch(self, pgid: int) -> None:
        """Watch this process group from now on."""
        self._note(str(pgid), f"watch {pgid}")

    def know_engines(self, described: str) -> None:
        """Tell the guard how to reach the engines, see `runners.cleanup.describe`. Call it before
        the first `watch_away`."""
        self._note("engines", f"engines {described}")

    def watch_away(self, place: str, attempt: str) -> None:
        """Watch what this attempt has on an engine or in a cluster from now on."""
        self._note(f"away {attempt}", f"away {place} {attempt}")

    def forget_away(self, attempt: str) -> None:
        """The attempt left nothing there, or a sweep takes care of it."""
        self._drop(f"away {attempt}", f"back {attempt}")

    def beat(self) -> None:
        """Call after each lease renewal that the database confirmed."""
        with self._lock:
            if self._is_late():
                self._lapsed_at = strays.read_clock()
            self._note_beat()

    def _note_beat(self) -> None:
        self._beat = strays.read_clock()
        self._known["beat"] = message = f"beat {self._beat:.3f}"
        self._pulse(message)


def _widen(pipe: int) -> None:
    """Enlarge the pipe: the guard reads it four times a second, and a busy worker writes much
    meanwhile."""
    set_size = getattr(fcntl, "F_SETPIPE_SZ", None)
    if set_size is not None:
        try:
            fcntl.fcntl(pipe, set_size, _PIPE_BYTES)
        except OSError:
            return  # the default of 64 KiB holds about 800 steps
