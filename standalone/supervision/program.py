"""A long-running program, and one start of it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import PlatformError

StopSteps = tuple[tuple[signal.Signals, float], ...]
APPLICATION, STORE = 0, 1  # stages: applications stop first, then database and broker


class ProgramFailed(PlatformError):
    """A program did not start, or ended too early."""


@dataclass(frozen=True, slots=True)
class Program:
    """How to start a program, see that it answers, and stop it. It runs in its own session."""

    name: str
    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: Path | None = None
    before: Callable[[], None] = lambda: None  # removes what a killed predecessor left
    answers: Callable[[], bool] = lambda: True
    ready_within_s: float = 60.0
    stop_steps: StopSteps = ((signal.SIGTERM, 5.0),)
    stage: int = APPLICATION
    # takes `--lifeline-fd N` and ends when N closes, even without the guard
    holds_lifeline: bool = False
    user: int | None = None
    group: int | None = None


@dataclass(slots=True)
class Child:
    """One start of a program."""

    program: Program
    process: subprocess.Popen[bytes]
    forget: Callable[[int], None]  # tells the lifeline
    log_start: int = 0  # where in its log this start begins

    @property
    def pid(self) -> int:
        return self.process.pid

    def has_ended(self) -> bool:
        if self.process.poll() is None:
            return False
        self.forget(self.pid)
        return True

    def wait_until_ready(self, poll_s: float = 0.01) -> None:
        """Return once it answers. Raises ProgramFailed, with the end of its log, if it ends or
        takes too long."""
        deadline = time.monotonic() + self.program.ready_within_s
        while not self.program.answers():
            if self.has_ended():
                raise ProgramFailed(f"{self.program.name} ended at its start: {self.last_words()}")
            if time.monotonic() > deadline:
                raise ProgramFailed(
                    f"{self.program.name} did not answer within {self.program.ready_within_s:g}"
                    f" seconds: {self.last_words()}"
                )
            time.sleep(poll_s)
            poll_s = min(poll_s * 1.2, 0.2)

    def last_words(self, size_bytes: int = 2000, lines: int = 6) -> str:
        """The last lines that this start logged."""
        try:
            with self.program.log.open("rb") as handle:
                end = handle.seek(0, os.SEEK_END)
                handle.seek(max(self.log_start, end - size_bytes))
                text = handle.read().decode(errors="replace")
        except OSError:
            return "it wrote no log"
        found = [line for line in text.splitlines() if line.strip()][-lines:]
        return "\n".join(found) or "it wrote nothing to its log"

    def stop(self, within_s: float | None = None) -> None:
        """Stop it by its stop steps, then by KILL; `within_s` shortens the times."""
        left = within_s if within_s is not None else float("inf")
        for number, seconds in self.program.stop_steps:
            if self.has_ended():
                break
            self.process.send_signal(number)
            allowed = min(seconds, left)
            left -= allowed
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(allowed)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)  # what is left of its first process group
        self.forget(self.pid)
