"""Other brokers, where they are installed."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.workers.rabbit import PROGRAM, Rabbit, free_ports

START_S = 30.0


def installed() -> list[str]:
    """Which of `redis` and `rabbitmq` this machine can start."""
    found = {"redis": shutil.which("redis-server"), "rabbitmq": Path(PROGRAM).exists()}
    return [name for name, is_here in found.items() if is_here]


@contextmanager
def serving(name: str) -> Iterator[str]:
    """Start this broker for the block; yields its URL."""
    with tempfile.TemporaryDirectory(prefix="stroem-bench-") as folder:
        if name == "rabbitmq":
            rabbit = Rabbit(Path(folder))
            with closing(rabbit):
                rabbit.start()
                yield rabbit.url
            return
        (port,) = free_ports(1)
        argv = [
            "redis-server",
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            folder,
        ]
        server = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        try:
            _wait_for(port)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            server.terminate()
            server.wait(START_S)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit("redis-server did not start") from None
            time.sleep(0.05)
