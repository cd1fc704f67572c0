"""A small installation of real processes on the test's own database and broker."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
import yaml

from tests.apps.jobs.builders import until

ROOT = Path(__file__).resolve().parents[1]


def database_url() -> str:
    """Of the test's own database, for processes."""
    from django.db import connection

    parts = urlsplit(os.environ["STROEM__DB__URL"])
    return urlunsplit(parts._replace(path=f"/{connection.settings_dict['NAME']}"))


class House:
    """Starts `manage.py` processes and ends all of them, whatever happened to them meanwhile."""

    def __init__(self, folder: Path, env: dict[str, str], **recovery: object) -> None:
        self.folder = folder
        self.env = env | {
            f"STROEM__RECOVERY__{key.upper()}": str(value) for key, value in recovery.items()
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str, name: str = "") -> subprocess.Popen[bytes]:
        log = (self.folder / f"{name or command[0]}.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "manage.py"), *command],
            env=self.env,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def scheduler(self) -> subprocess.Popen[bytes]:
        return self.start("scheduler")

    def worker(
        self, name: str, *tags: str, slots: int = 4, **settings: Any
    ) -> subprocess.Popen[bytes]:
        """A worker that has registered. `settings` are more of its configuration's keys."""
        from apps.fleet.models import Worker

        config = self.folder / f"{name}.yaml"
        own = {
            "worker_name": name,
            "max_concurrent": slots,
            "tags": list(tags or ("script",)),
            "workspace_cache_dir": str(self.folder / name),
        }
        config.write_text(yaml.safe_dump(own | settings))
        process = self.start("worker", "--config", str(config), name=name)

        def is_there() -> bool:
            assert process.poll() is None, (self.folder / f"{name}.log").read_text()[-2000:]
            return Worker.objects.filter(name=name, stopped_at=None, pid=process.pid).exists()

        until(is_there, within_s=60)
        return process

    def kill(self, process: subprocess.Popen[bytes], *, tree: bool) -> None:
        """SIGKILL to the process alone, or to everything that descends from it as well, all at
        once."""
        found = [psutil.Process(process.pid)]
        if tree:
            found += found[0].children(recursive=True)
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for one in found:
                with suppress(psutil.NoSuchProcess):  # a step's that has just ended
                    one.send_signal(number)
        process.wait(10)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)
