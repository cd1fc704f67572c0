"""A running `manage.py up`, as a newcomer has it: own data directory, own port, nothing of the
tests' settings."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.standalone.processes import eventually, mentions

ROOT = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 60.0


def plain_environment(**extra: str) -> dict[str, str]:
    """Of somebody who has set nothing for Stroem or Django."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("STROEM_", "DJANGO_"))
    }
    kept.pop("PORT", None)
    return {**kept, **extra}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# as somebody who works with PostgreSQL may have set
OF_OTHER_DATABASES = {
    "PGSERVICE": "reports",
    "PGHOSTADDR": "192.0.2.1",
    "PGTARGETSESSIONATTRS": "standby",
    "PGCHANNELBINDING": "require",
    "PGGSSENCMODE": "require",
    "PGDATESTYLE": "German",
}


def manage(
    *arguments: str, timeout_s: float = 60, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=ROOT,
        env=plain_environment(**environment),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


class Up:
    def __init__(
        self, data_dir: Path, *, prefix: Sequence[str] = (), cwd: Path = ROOT, **environment: str
    ) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        program = () if prefix else (sys.executable,)
        self.process = subprocess.Popen(
            [*prefix, *program, "manage.py", "up"],
            cwd=cwd,
            env=plain_environment(
                STROEM__DATA_DIR=str(data_dir), PORT=str(self.port), **environment
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def wait_until_ready(self) -> str:
        """The line that says where to go."""

        def is_ready() -> bool:
            assert self.process.poll() is None, self.output
            return any("open http" in line for line in self.lines)

        eventually(is_ready, within_s=READY_WITHIN_S)
        return next(line for line in self.lines if "open http" in line)

    def processes(self) -> list[int]:
        """Everything that was started for this data directory or this port; `up` itself
        excepted."""
        found = {*mentions(str(self.data_dir)), *mentions(str(self.port)), *self._descendants()}
        return sorted(found - {self.process.pid})

    def _descendants(self) -> set[int]:
        try:
            return {
                child.pid for child in psutil.Process(self.process.pid).children(recursive=True)
            }
        except psutil.NoSuchProcess:
            return set()

    def pid_of(self, *words: str) -> int:
        for pid in self._descendants():
            with contextlib.suppress(psutil.Error):  # it ended meanwhile
                line = " ".join(psutil.Process(pid).cmdline())
                if all(word in line for word in words):
                    return pid
        raise AssertionError(f"no process with {words}")

    def stop(self, number: int = signal.SIGINT, within_s: float = 30) -> int:
        self.process.send_signal(number)
        return self.process.wait(within_s)

    def end(self) -> None:
        """For a fixture's end, whatever happened."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def ask(self, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        """Status and JSON of one request to the API."""
        headers = {"Content-Type": "application/json"} | (
            {"Authorization": f"Bearer {token}"} if token else {}
        )
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data=data, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                return response.status, json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text.startswith(b"{") else text.decode(
                errors="replace"
            )

    def password(self) -> str:
        found = re.search(r"the password (\S+) \(shown this once\)", self.output)
        assert found, self.output
        return found[1]

    def sign_in(self, email: str = "admin@localhost", password: str | None = None) -> str:
        status, answer = self.ask(
            "/api/auth/login", {"email": email, "password": password or self.password()}
        )
        assert status == 200, answer
        return str(answer["access_token"])
