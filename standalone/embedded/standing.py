"""The servers in the data directory of `up`, and the lock that allows only one `up` there."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from standalone.embedded import postgres, valkey
from standalone.embedded.folders import private_folder, socket_folder
from standalone.embedded.wheels import EmbeddedError
from standalone.supervision.program import Program

GUARD_NEEDS_S = 15.0  # the guard of a killed `up` keeps the lock until everything has ended


class AlreadyRunning(EmbeddedError):
    """Another `up` uses this data directory."""


@dataclass(frozen=True, slots=True)
class Lock:
    """Held while this descriptor is open in this process or in its guard."""

    fd: int

    def release(self) -> None:
        os.close(self.fd)


def take_lock(data_dir: Path, say: Callable[[str], None]) -> Lock:
    """Take the lock of `data_dir`. Waits for the guard of a dead holder to clean up; raises
    AlreadyRunning for a live holder."""
    data_dir.mkdir(parents=True, exist_ok=True)
    fd = os.open(data_dir / "up.lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline, has_said = time.monotonic() + GUARD_NEEDS_S, False
    while not _try(fd):
        holder = _holder(fd)
        if holder is None or _is_alive(holder) or time.monotonic() > deadline:
            os.close(fd)
            raise AlreadyRunning(
                f"`up` is already running in {data_dir} (process {holder}): stop it first, or"
                " choose another data_dir."
            )
        if not has_said:
            say("Waiting for the processes of a killed `up` to end ...")
            has_said = True
        time.sleep(0.1)
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return Lock(fd)


def _try(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _holder(fd: int) -> int | None:
    for _ in range(20):  # the holder writes its number just after it takes the lock
        text = os.pread(fd, 32, 0).decode().strip()
        if text.isdigit():
            return int(text)
        time.sleep(0.05)
    return None


def _is_alive(pid: int) -> bool:
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


@dataclass(frozen=True, slots=True)
class Standing:
    """The database and the broker of a data directory."""

    data_dir: Path
    cluster: postgres.Cluster
    doorbell: valkey.Doorbell

    @property
    def logs(self) -> Path:
        return self.data_dir / "log"

    def database(self) -> Program:
        """Creates the cluster on first use."""
        postgres.prepare(self.cluster)
        return postgres.program(self.cluster, self.logs / "database.log")

    def broker(self) -> Program:
        return valkey.program(self.doorbell, self.logs / "broker.log")


def standing_in(data_dir: Path) -> Standing:
    sockets = socket_folder(data_dir)
    store = private_folder(data_dir / "postgres")
    private_folder(data_dir / "log")
    cluster = postgres.Cluster(store, sockets)
    return Standing(data_dir, cluster, valkey.Doorbell(sockets))
