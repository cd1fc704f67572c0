"""Pipes whose end tells that this process is gone, even by SIGKILL: one to a guard that ends our
children, and one to those of our own making, which end themselves although the guard was killed as
well.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from standalone.supervision.program import Child, Program

GUARD = Path(__file__).with_name("guard.py")
# The child waits for one line before it becomes the program: by then the guard knows it, so no kill
# falls in between.
_GATE = 'IFS= read -r go && [ "$go" = go ] && exec "$@" </dev/null'


class Lifeline:
    """Starts programs that end when this process does. One guard serves all of them; a guard that
    died is replaced."""

    def __init__(self, *, keep_open: tuple[int, ...] = ()) -> None:
        """`keep_open`: descriptors that the guard holds too, such as a lock that must outlast our
        programs."""
        self._keep_open = keep_open
        self._lock = threading.Lock()
        self._known: dict[int, str] = {}
        self._folders: list[Path] = []
        self._guard: subprocess.Popen[bytes] | None = None
        self._held_end, self._our_end = os.pipe()
        self._is_open = True

    def spawn(self, program: Program) -> Child:
        program.before()
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as log:
            log_start = log.tell()
            argv = program.argv + (
                ("--lifeline-fd", str(self._held_end)) if program.holds_lifeline else ()
            )
            process = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, program.name, *argv],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=program.cwd,
                env=dict(program.env),
                start_new_session=True,
                user=program.user,
                group=program.group,
                extra_groups=None if program.user is None else [],
                pass_fds=(self._held_end,) if program.holds_lifeline else (),
            )
        steps = ",".join(f"{int(number)}:{seconds}" for number, seconds in program.ending)
        self._tell(process.pid, f"+{process.pid} {program.stage} {steps}\n")
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as gate:
            gate.write(b"go\n")
        process.stdin = None
        return Child(program, process, self.forget, log_start)

    def remove_at_end(self, folder: Path) -> None:
        """`folder` goes when this process is gone and its programs have ended."""
        with self._lock:
            self._folders.append(folder)
            self._ensure_guard() or self._write(f"={folder}\n")

    def forget(self, pid: int) -> None:
        with self._lock:
            if self._known.pop(pid, None) is not None:
                self._write(f"-{pid}\n")

    def close(self) -> None:
        """Lets go: the guard ends whatever is left, and then itself."""
        with self._lock:
            guard, self._guard = self._guard, None
            is_open, self._is_open = self._is_open, False
        if is_open:
            os.close(self._our_end)
            os.close(self._held_end)
        if guard is not None and guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                guard.stdin.close()
            guard.wait()

    def check(self) -> None:
        """Replaces a guard that somebody killed."""
        with self._lock:
            if self._known:
                self._ensure_guard()

    def _tell(self, pid: int, line: str) -> None:
        with self._lock:
            self._known[pid] = line
            self._ensure_guard() or self._write(line)

    def _ensure_guard(self) -> bool:
        """True when a new one had to be started; it has been told everything then."""
        if self._guard is not None and self._guard.poll() is None:
            return False
        self._guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(GUARD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.defpath},
            start_new_session=True,
            pass_fds=self._keep_open,
        )
        for line in self._known.values():
            self._write(line)
        for folder in self._folders:
            self._write(f"={folder}\n")
        return True

    def _write(self, line: str) -> None:
        if self._guard is not None and self._guard.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._guard.stdin.write(line.encode())
                self._guard.stdin.flush()


def watch(fd: int, at_end: Callable[[], None]) -> None:
    """Calls `at_end`, in a thread, when whoever holds the other end of `fd` is gone."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(fd, 4096):
                continue
        at_end()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
