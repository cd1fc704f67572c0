"""A RabbitMQ of a test's own: on free ports, in a folder, stopped and started at will."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"  # the one in /usr/sbin changes user


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


class Rabbit:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.epmd, self.distribution = free_ports(3)
        (folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "distribution.listener.interface = 127.0.0.1\n"
            "loopback_users = none\nlog.console = false\ndisk_free_limit.absolute = 50MB\n"
        )
        (folder / "enabled_plugins").write_text("[].")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    def start(self) -> None:
        folder = str(self.folder)
        env = {
            "PATH": os.environ["PATH"],
            "HOME": folder,
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq.conf",
            "RABBITMQ_MNESIA_BASE": f"{folder}/db",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_DIST_PORT": str(self.distribution),
            "RABBITMQ_PID_FILE": f"{folder}/pid",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "ERL_EPMD_PORT": str(self.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        log = (self.folder / "out.log").open("ab")
        self.process = subprocess.Popen(
            [PROGRAM], env=env, stdout=log, stderr=log, start_new_session=True
        )
        deadline = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None and time.monotonic() < deadline, (
                "RabbitMQ did not start"
            )
            time.sleep(0.1)

    def kill(self) -> None:
        """No goodbye: the node is gone at once."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        # the port mapper daemon stays behind: ours is known by its port
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and self._is_our_mapper(entry):
                os.kill(int(entry.name), signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_our_mapper(self, process: Path) -> bool:
        try:
            environ = (process / "environ").read_bytes()
            return (
                b"epmd" in (process / "cmdline").read_bytes()
                and b"ERL_EPMD_PORT=%d\0" % self.epmd in environ
            )
        except OSError:
            return False

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.settimeout(2)
                connection.sendall(b"AMQP\0\0\x09\x01")
                return bool(connection.recv(8))
        except OSError:
            return False
