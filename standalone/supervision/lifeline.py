"""Programs that end when this process ends, even by SIGKILL: a guard stops them. Our own programs
also stop themselves when a pipe from this process closes, in case the guard was killed too."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from runners.guard.guard import GuardProcess
from standalone.supervision.program import Child, Program

# The child waits for one line before it becomes the program, so that the guard knows it first.
_GATE = 'IFS= read -r go && [ "$go" = go ] && exec "$@" </dev/null'


class Lifeline:
    """Starts programs that end with this process. One guard serves all; a dead guard is
    replaced."""

    def __init__(self, *, keep_open: tuple[int, ...] = ()) -> None:
        """`keep_open`: descriptors that the guard also holds, such as a lock that must outlast the
        programs."""
        self._guard = GuardProcess(keep_open)
        self._held_end, self._our_end = os.pipe()
        self._is_open = True

    def spawn(self, program: Program) -> Child:
        self._guard.launch()
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
        self._guard.watch_program(process.pid, program.stage, program.stop_steps)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as gate:
            gate.write(b"go\n")
        process.stdin = None
        return Child(program, process, self.forget, log_start)

    def remove_at_end(self, folder: Path) -> None:
        """Remove `folder` after this process and its programs have ended."""
        self._guard.launch()
        self._guard.remove_at_end(folder)

    def forget(self, pid: int) -> None:
        self._guard.forget(pid)

    def close(self) -> None:
        """Let the guard stop what is left and then end."""
        self._guard.close()
        if self._is_open:
            self._is_open = False
            os.close(self._our_end)
            os.close(self._held_end)
        self._guard.wait()

    def check(self) -> None:
        """Replace the guard if it was killed."""
        self._guard.beat()


def watch(fd: int, at_end: Callable[[], None]) -> None:
    """Call `at_end`, in a thread, when the process with the other end of `fd` is gone."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(fd, 4096):
                continue
        at_end()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
