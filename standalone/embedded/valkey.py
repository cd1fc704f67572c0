"""Our own Valkey server. It stores nothing: the database knows everything that the broker loses."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from standalone.embedded.wheels import valkey_server
from standalone.supervision.program import STORE, Program

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
        """The address in kombu's format."""
        return f"redis+socket://{self.socket}?virtual_host={database}"

    def ask(self, *words: str) -> bytes:
        """The raw answer to one command; empty if the server closes the connection. Raises OSError.

        Importing a client library would cost more than it saves for two commands.
        """
        command = "".join(
            (f"*{len(words)}\r\n", *(f"${len(word)}\r\n{word}\r\n" for word in words))
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket))
            connection.sendall(command.encode())
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b""))


def program(doorbell: Doorbell, log: Path) -> Program:
    return Program(
        name="broker",
        argv=(
            str(valkey_server()), "--port", "0", "--unixsocket", str(doorbell.socket),
            "--unixsocketperm", "700",
            "--save", "", "--appendonly", "no", "--daemonize", "no", "--loglevel", "warning",
            "--dir", str(doorbell.sockets), "--pidfile", str(doorbell.pid_file), "--databases",
            str(DATABASES),
            "--maxmemory-policy", "noeviction",
        ),
        log=log,
        env={"PATH": os.defpath, "LC_ALL": "C"},
        cwd=Path("/"),
        before=lambda: stop_left_over(doorbell),
        answers=lambda: process_id(doorbell) is not None,
        stop_steps=((signal.SIGTERM, 2.0),),
        stage=STORE,
    )  # fmt: skip


def process_id(doorbell: Doorbell) -> int | None:
    """The pid of the server that answers on our socket."""
    try:
        found = re.search(rb"process_id:(\d+)", doorbell.ask("INFO", "server"))
    except OSError:
        return None
    return int(found[1]) if found else None


def stop_left_over(doorbell: Doorbell) -> None:
    """Stop the server that a killed predecessor left on our socket."""
    pid = process_id(doorbell)
    if pid is not None:
        with contextlib.suppress(OSError):
            doorbell.ask("SHUTDOWN", "NOSAVE")
        deadline = time.monotonic() + 5
        while process_id(doorbell) == pid and time.monotonic() < deadline:
            time.sleep(0.02)
    doorbell.socket.unlink(missing_ok=True)
    doorbell.pid_file.unlink(missing_ok=True)
