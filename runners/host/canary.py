"""A child that does nothing. If TERM ends it, whoever sent that ends all processes of this one."""

from __future__ import annotations

import signal
import subprocess
from contextlib import suppress

from runners.guard import offspring


class Canary:
    """In a session of its own, as steps are. It ends with this process: its input ends then."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with suppress(OSError):  # without it, only exit codes tell
            self._start()

    def _start(self) -> None:
        self._process, _ = offspring.start_known(
            lambda: subprocess.Popen(
                ["cat"],
                cwd="/",
                env={},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        )

    def was_told_to_end(self) -> bool:
        return self._process is not None and self._process.poll() in (
            -signal.SIGTERM,
            -signal.SIGINT,
        )

    def close(self) -> None:
        if self._process is None:
            return
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        offspring.forget(self._process)
        self._process = None
