"""One process of a step, from its start until all its descendants are gone.

The thread that runs the step reads both pipes, waits for the stop signal and checks the time in one
poll loop: no extra thread and no temporary file per step. Leftover processes are cheap to find: an
orphan becomes a child of the nearest subreaper above it, which is the worker. The worker's own
processes, started in other threads, are not among its main thread's children; usually that list is
empty, and an ordinary step only pays for one look at it. Where the system allows it, a step also
has a cgroup of its own, which holds whatever it starts.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from engine.errors import AuthorError, PlatformError
from runners.base import StopSignal, limit_grace
from runners.guard import offspring, strays
from runners.guard.guard import Guard
from runners.guard.offspring import Cells, Place
from runners.host.environment import User, set_process_option
from runners.host.refusals import explain

Reader = Callable[[Literal["stdout", "stderr"], bytes], None]
Cause = Literal["stop", "timeout"]

_GIVE_UP_S = 9.5
_LINGER_S = 1.0
_LOOSE_S = 0.01  # a step that lasts longer gets its cgroup
_LEFTOVER_GRACE_S = 2.0
_READ_BYTES = 1 << 16
_ENTER = 'cd -- "$0" && exec "$@"'
_PR_SET_CHILD_SUBREAPER = 36
_PATIENT_POLL_MS = 50  # without pidfd the loop must poll for the end of the process


@dataclass(frozen=True, slots=True)
class Command:
    """What to start. `env` is the whole environment and may hold secrets."""

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str] = field(repr=False)
    umask: int = -1  # the worker's own
    is_foreign_cwd: bool = False  # chosen by an author, or below what the step's user owns
    stdin: int | None = None  # nothing by default
    is_heard_out: bool = False  # all that it printed is read, however long the reader takes


@dataclass(frozen=True, slots=True)
class ProcessEnd:
    """How a process ended: by itself (`cause` None) or forced. Exit code 128 + n means signal n."""

    exit_code: int
    cause: Cause | None
    left_running: int = 0  # processes that outlived the main one and were ended
    would_not_die: int = 0
    peak_bytes: int = 0  # the most that the main process, or one that it waited for, has used
    ended_at: float | None = None  # the main process, on the monotonic clock


def adopt_orphans() -> bool:
    """Become the parent of all orphans below this process; False if the system cannot do that."""
    return set_process_option(_PR_SET_CHILD_SUBREAPER, 1)


def supervise(
    command: Command,
    attempt: str,
    read: Reader,
    stop: StopSignal,
    deadline: float | None = None,
    grace_s: float = 5.0,
    guard: Guard | None = None,
    user: User | None = None,
    walltime_grace_s: float | None = None,
) -> ProcessEnd:
    """Start `command`, pass on its output, and return when it and all its descendants are gone.

    `deadline` is on the monotonic clock; `walltime_grace_s` replaces `grace_s` when the stop's
    reason is the end of an allocation. Raises AuthorError when the command cannot be started.
    """
    bell = _Bell()
    reading: dict[int, Literal["stdout", "stderr"]] = {}
    pool = guard.cells if guard is not None else None
    try:
        process, place = _start(command, user, reading, pool)
        try:
            if guard is not None:
                guard.watch(process.pid)
            return _Supervision(
                process,
                attempt,
                read,
                reading,
                stop,
                bell,
                deadline,
                grace_s,
                walltime_grace_s,
                pool,
                place,
                is_heard_out=command.is_heard_out,
            ).run()
        finally:
            if process.returncode is None:  # no guard, no descriptor: nobody else would end it
                strays.end(strays.Hunt((process.pid,), attempt), 0.0, between=process.poll)
            offspring.forget(process)
            if pool is not None and place is not None and place.cell is not None:
                pool.give_back(place.cell)
            if guard is not None:
                guard.forget(process.pid)
    finally:
        bell.close()
        for fd in reading:
            os.close(fd)


def _start(
    command: Command,
    user: User | None,
    reading: dict[int, Literal["stdout", "stderr"]],
    pool: Cells | None,
) -> tuple[subprocess.Popen[bytes], Place | None]:
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    reading.update({out_read: "stdout", err_read: "stderr"})
    argv, cwd = command.argv, os.fspath(command.cwd)
    if user is not None and command.is_foreign_cwd:
        # `Popen` would enter it before it becomes the user, who may not be allowed to
        argv, cwd = ("/bin/sh", "-c", _ENTER, cwd, *argv), "/"
    try:
        return offspring.start_known(
            lambda: subprocess.Popen(
                argv,
                cwd=cwd,
                env=command.env,
                stdin=_nothing() if command.stdin is None else command.stdin,
                stdout=out_write,
                stderr=err_write,
                start_new_session=True,
                umask=command.umask,
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=user.groups if user else None,
            ),
            pool,
        )
    except OSError as error:
        raise explain(error, command.argv, command.cwd, command.env) from error
    except ValueError as error:  # also UnicodeEncodeError
        raise AuthorError(
            "an argument or environment value of the step holds a character that no program can be"
            f" given (NUL or half a surrogate pair): {type(error).__name__}"
        ) from None
    finally:
        os.close(out_write)
        os.close(err_write)


@cache
def _nothing() -> int:
    """The stdin of every step."""
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


class _Bell:
    """Wakes a poll loop from any thread; harmless once closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_closed = False
        if hasattr(os, "eventfd"):
            self.fd = self._write_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self.fd, self._write_fd = os.pipe()

    def ring(self) -> None:
        with self._lock:
            if not self._is_closed:
                os.write(self._write_fd, b"\1\0\0\0\0\0\0\0")

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            os.close(self.fd)
            if self._write_fd != self.fd:
                os.close(self._write_fd)


class _Supervision:
    """The poll loop of one process. `run` once."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        attempt: str,
        read: Reader,
        reading: dict[int, Literal["stdout", "stderr"]],
        stop: StopSignal,
        bell: _Bell,
        deadline: float | None,
        grace_s: float,
        walltime_grace_s: float | None,
        pool: Cells | None,
        place: Place | None,
        *,
        is_heard_out: bool,
    ) -> None:
        self._is_heard_out = is_heard_out
        self._process = process
        self._attempt = attempt
        self._pool = pool
        self._place = place
        self._hunt = strays.Hunt((process.pid,), attempt)
        self._encloses_at = time.monotonic() + _LOOSE_S
        if place is None:
            self._note_birth()
        self._read = read
        self._reading = reading  # pipes that are still open; closed and removed at their end
        self._stop = stop
        stop.on_set(bell.ring)
        self._deadline = deadline
        self._grace_s = grace_s
        self._walltime_grace_s = walltime_grace_s
        self._cause: Cause | None = None
        self._asked_at = 0.0
        self._peak_bytes = 0
        self._ended_at = 0.0
        self._wake_at: float | None = deadline
        self._exit_fd = os.pidfd_open(process.pid) if hasattr(os, "pidfd_open") else None
        self._poll = select.poll()
        for fd in (*reading, bell.fd):
            self._poll.register(fd, select.POLLIN)
        if self._exit_fd is not None:
            self._poll.register(self._exit_fd, select.POLLIN)

    def run(self) -> ProcessEnd:
        try:
            if self._exit_fd is None:
                self._enclose()
            while self._process.returncode is None:
                self._pump(self._time_left_ms())
                self._keep_time()
            self._ended_at = time.monotonic()
            self._linger()
            return self._clear()
        except BaseException:
            # The step must not outlive its reader.
            self._enclose()
            strays.end(self._hunt, 0.0, between=self._process.poll)
            raise
        finally:
            offspring.born.pop(self._process.pid, None)
            if self._exit_fd is not None:
                os.close(self._exit_fd)

    def _note_birth(self) -> None:
        found = strays.read_process(self._process.pid)
        offspring.born[self._process.pid] = found.age if found is not None else (0, 0)

    def _enclose(self) -> None:
        """From now on the process has its cgroup, if there are any."""
        place = self._place
        if place is None or self._pool is None:
            return
        offspring.enclose(self._pool, place)
        self._know_place(place)

    def _know_place(self, place: Place) -> None:
        self._hunt.cell = place.cell.path if place.cell is not None else None
        if place.is_refused:
            self._note_birth()

    def _time_left_ms(self) -> float | None:
        if self._exit_fd is None:
            return _PATIENT_POLL_MS
        wake_at = self._wake_at
        if self._place is not None and self._place.is_loose:
            wake_at = min(self._encloses_at, wake_at or self._encloses_at)
        return None if wake_at is None else max(wake_at - time.monotonic(), 0.0) * 1000 + 1

    def _pump(self, timeout_ms: float | None) -> bool:
        """Wait for the first event and read what is available; True when a pipe had data."""
        was_read = False
        for fd, _ in self._poll.poll(timeout_ms):
            stream = self._reading.get(fd)
            if stream is not None:
                was_read = True
                self._take(fd, stream)
            elif fd == self._exit_fd:
                self._poll.unregister(fd)
                self._reap()
            else:
                self._poll.unregister(fd)  # the bell rings once
        if self._exit_fd is None:
            self._process.poll()
        return was_read

    def _reap(self) -> None:
        if self._place is not None and self._pool is not None:
            offspring.settle(self._pool, self._place)
            self._know_place(self._place)
        try:
            status, peak_kib = offspring.reap(self._process)
        except ChildProcessError as error:
            self._process.wait()  # which would take it for a success
            raise PlatformError(
                "the exit code of the step's process is not known: start the worker where SIGCHLD"
                " is not ignored"
            ) from error
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._peak_bytes = peak_kib * 1024

    def _take(self, fd: int, stream: Literal["stdout", "stderr"]) -> None:
        data = os.read(fd, _READ_BYTES)
        if data:
            self._read(stream, data)
            return
        self._poll.unregister(fd)
        del self._reading[fd]
        os.close(fd)

    def _keep_time(self) -> None:
        if self._process.returncode is not None:
            return
        now = time.monotonic()
        if self._place is not None and self._place.is_loose and now >= self._encloses_at:
            self._enclose()
        if self._cause is None:
            if self._stop.reason is not None:
                self._ask("stop", now)
            elif self._deadline is not None and now >= self._deadline:
                self._ask("timeout", now)
        elif now >= self._asked_at + self._grace_s:
            self._hunt.kill(self._hunt.look())
            self._wake_at = now + 0.2

    def _ask(self, cause: Cause, now: float) -> None:
        """TERM to everything; KILL follows after the grace period."""
        reason = self._stop.reason if cause == "stop" else None
        self._grace_s = limit_grace(self._grace_s, reason, self._walltime_grace_s)
        self._enclose()
        self._cause, self._asked_at = cause, now
        self._wake_at = now + self._grace_s
        strays.send(signal.SIGTERM, self._hunt.look(), (self._process.pid,))

    def _linger(self) -> None:
        """Read what is left in the pipes. A filter at the script's end (`exec > >(tee log)`) gets a
        moment to finish; background processes of the script do not."""
        until = time.monotonic() + _LINGER_S
        is_hurried = self._cause is not None
        while self._reading and not is_hurried and (left := until - time.monotonic()) > 0:
            self._pump(left * 1000)
            is_hurried = self._stop.reason is not None
        while self._reading and self._pump(0):
            is_patient = self._is_heard_out and self._stop.reason is None
            if not is_patient and time.monotonic() >= until + _LINGER_S:
                break

    def _clear(self) -> ProcessEnd:
        """End and reap what the main process left behind."""
        code = self._process.returncode
        exit_code = 128 - code if code < 0 else code
        if not self._has_leftovers():
            return ProcessEnd(exit_code, self._cause, 0, 0, self._peak_bytes, self._ended_at)
        left = self._hunt.look()
        waited = time.monotonic() - self._asked_at if self._cause else 0.0
        grace_s = self._grace_s - waited if self._cause else min(self._grace_s, _LEFTOVER_GRACE_S)
        give_up_s = max(_GIVE_UP_S - waited, _LEFTOVER_GRACE_S)
        stubborn = strays.end(self._hunt, max(grace_s, 0.0), give_up_s, self._collect)
        self._collect()
        return ProcessEnd(
            exit_code, self._cause, len(left), len(stubborn), self._peak_bytes, self._ended_at
        )

    def _collect(self) -> None:
        self._pump(0)
        offspring.collect(self._process.pid)

    def _has_leftovers(self) -> bool:
        adopted = offspring.collect(self._process.pid)
        for pid in adopted:  # it may shed its mark before anybody looks again
            orphan = strays.read_process(pid)
            if orphan is not None and strays.read_marks(pid)[0] == self._attempt:
                self._hunt.know({pid: orphan.started})
        place = self._place
        if place is None or place.is_refused:
            self._hunt.know(offspring.find_disowned(adopted, self._process.pid))
        return (
            (place is not None and place.cell is not None and place.cell.is_occupied)
            or offspring.has_members(self._process.pid)
            or self._hunt.has_known()
        )
