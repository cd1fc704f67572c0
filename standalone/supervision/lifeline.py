"""Programs that end when this process is gone, even by SIGKILL: a guard ends them, and those of our
own making hold a pipe whose end tells them to end themselves although the guard was killed as well.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from runners.guard.guard import GuardProcess
from standalone.supervision.program import Child, Program

# The child waits for one line before it becomes the program: by then the guard knows it, so no kill
# falls in between.
_GATE = 'IFS= read -r go && [ "$go" = go ] && exec "$@" </dev/null'


class Lifeline:
    """Starts programs that end when this process does. One guard serves all of them; a guard that
    died is replaced."""

    def __init__(self, *, keep_open: tuple[int, ...] = ()) -> None:
        """`keep_open`: descriptors that the guard holds too, such as a lock that must outlast our
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
        """`folder` goes when this process is gone and its programs have ended."""
        self._guard.launch()
        self._guard.remove_at_end(folder)

    def forget(self, pid: int) -> None:
        self._guard.forget(pid)

    def close(self) -> None:
        """Lets go: the guard ends whatever is left, and then itself."""
        self._guard.close()
        if self._is_open:
            self._is_open = False
            os.close(self._our_end)
            os.close(self._held_end)
        self._guard.wait()

    def check(self) -> None:
        """Replaces a guard that somebody killed."""
        self._guard.beat()


def watch(fd: int, at_end: Callable[[], None]) -> None:
    """Calls `at_end`, in a thread, when whoever holds the other end of `fd` is gone."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(fd, 4096):
                continue
        at_end()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
