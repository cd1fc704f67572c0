"""A Valkey server of our own. It keeps nothing: what the broker forgets, the database still knows."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import redis

from stroem_project.embedded.wheels import valkey_server
from stroem_project.supervision.program import STORE, Program

DATABASES = 64


@dataclass(frozen=True, slots=True)
class Doorbell:
    """`sockets` is a private directory."""

    sockets: Path

    @property
    def socket(self) -> Path:
        return self.sockets / "valkey.sock"

    @property
    def pid_file(self) -> Path:
        return self.sockets / "valkey.pid"

    def url(self, database: int = 0) -> str:
        """In kombu's words."""
        return f"redis+socket://{self.socket}?virtual_host={database}"

    def client(self, database: int = 0) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), db=database, socket_timeout=5)


def program(doorbell: Doorbell, log: Path) -> Program:
    return Program(
        name="broker",
        argv=(
            str(valkey_server()), "--port", "0", "--unixsocket", str(doorbell.socket), "--unixsocketperm", "700",
            "--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning",
            "--dir", str(doorbell.sockets), "--pidfile", str(doorbell.pid_file), "--databases", str(DATABASES),
            "--maxmemory-policy", "noeviction",
        ),
        log=log,
        env={"PATH": os.defpath, "LC_ALL": "C"},
        cwd=Path("/"),
        before=lambda: stop_left_over(doorbell),
        answers=lambda: process_id(doorbell) is not None,
        ending=((signal.SIGTERM, 2.0),),
        stage=STORE,
    )  # fmt: skip


def process_id(doorbell: Doorbell) -> int | None:
    """Of the server that answers on our socket."""
    if not doorbell.socket.exists():
        return None
    try:
        with contextlib.closing(doorbell.client()) as client:
            return int(client.info("server")["process_id"])
    except (redis.RedisError, OSError):
        return None


def stop_left_over(doorbell: Doorbell) -> None:
    """Stops the server that a killed predecessor left: the one that answers on our socket with the pid of its file."""
    pid = process_id(doorbell)
    if pid is not None:
        with contextlib.suppress(redis.RedisError), contextlib.closing(doorbell.client()) as client:
            client.shutdown(nosave=True)
        deadline = time.monotonic() + 5
        while process_id(doorbell) == pid and time.monotonic() < deadline:
            time.sleep(0.02)
    doorbell.socket.unlink(missing_ok=True)
    doorbell.pid_file.unlink(missing_ok=True)
