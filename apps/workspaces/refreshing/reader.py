"""A process that reads workspaces, as its owner sees it: asked, waited for and, at a limit, killed
with everything that it started."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from typing import Any

from django.conf import settings

from apps.workspaces.refreshing.turns import Outcome

STARTS_WITHIN_S = 60.0
LOOK_S = 0.25
NEVER = threading.Event()
# The code must come from our own directory, never from that in which a command was called.
PROGRAM = "import sys; sys.path.insert(0, {!r}); from {} import main; main()"


class Reader:
    """Starts its process when it is first needed. Not for several threads at once."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = ""

    def read(
        self, workspace_id: int, *, only_if_changed: bool, stop: threading.Event = NEVER
    ) -> Outcome:
        """Read this workspace; its turn must be the caller's."""
        amiss = self._start(stop) if self._process is None else None
        if amiss is not None:
            self.close()
            return amiss
        if not self._ask(workspace_id, only_if_changed):
            self.close()
            return Outcome("failed", "the process for reading has ended; see its log")
        seconds = settings.STROEM.refresh.timeout_s
        answer = self._wait(seconds, stop)
        if answer is None or answer.keys() & {"late", "ended"} or answer.get("is_over"):
            self.close()
        if answer is None:
            return Outcome("given_up")
        if "late" in answer:
            return Outcome("stopped", f"reading it took longer than {seconds:g} s")
        if "ended" in answer:
            why = "the process that read it was ended; perhaps it needed too much memory"
            return Outcome("stopped", why)
        return Outcome(answer["kind"], answer["why"])

    def close(self) -> None:
        """End the process and all that it started, and remove its files."""
        if (process := self._process) is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(
                subprocess.TimeoutExpired
            ):  # on a dead file system even a killed one stays
                process.wait(5)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._process, self._folder = None, ""

    def _start(self, stop: threading.Event) -> Outcome | None:
        """Start the process; returns why that was not possible."""
        try:
            self._launch()
        except OSError as error:
            return Outcome("failed", f"no process for reading could start ({error.strerror})")
        started = self._wait(STARTS_WITHIN_S, stop)
        if started is None:
            return Outcome("given_up")
        if "ready" not in started:
            return Outcome("failed", "the process for reading did not start; see its log")
        return None

    def _launch(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="stroem-read-")
        module = "apps.workspaces.refreshing.reading"
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", PROGRAM.format(str(settings.BASE_DIR), module)],
            env={
                **os.environ,
                "STROEM_WITHOUT_ALLAUTH": "1",
                "STROEM_WITHOUT_POOL": "1",
                "TMPDIR": self._folder,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def _ask(self, workspace_id: int, only_if_changed: bool) -> bool:
        assert self._process is not None and self._process.stdin is not None
        asked = {"workspace": workspace_id, "only_if_changed": only_if_changed}
        try:
            self._process.stdin.write(json.dumps(asked).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            return False
        return True

    def _wait(self, seconds: float, stop: threading.Event) -> dict[str, Any] | None:
        """What the process says: `late` if nothing in time, `ended` if it is gone; None after
        `stop`."""
        assert self._process is not None and self._process.stdout is not None
        ends_at = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not stop.is_set():
                if selector.select(LOOK_S):
                    return _parsed(self._process.stdout.readline())
                if time.monotonic() > ends_at:
                    return {"late": True}
        return None


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(line)
    except ValueError:  # cut off by the end of the process
        return {"ended": True}
    return found
