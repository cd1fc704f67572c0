"""Processes of this host that outlived their parent: this process adopts and reaps them."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress

from runners.guard import strays
from runners.guard.cells import Cells, Place

_READ_BYTES = 1 << 16

_lock = threading.Lock()  # a process that just started must not be reaped before it is registered
started: set[int] = set()
born: dict[int, tuple[int, int]] = {}  # process of a step without a cgroup -> its age


def find_disowned(adopted: list[int], own: int) -> dict[int, int]:
    """pid -> start of the orphans that shed their marks and can only be of this step: born in its
    time, and after no other step began that still runs. The last of those steps ends the rest."""
    began = born.get(own, (0, 0))
    others = [start for pid, start in dict(born).items() if pid != own]
    found: dict[int, int] = {}
    for pid in adopted:
        process = strays.read_process(pid)
        if process is None or process.sid in (os.getsid(0), *strays.guards):
            continue
        is_ours = began <= process.age and not any(other <= process.age for other in others)
        if is_ours and strays.read_marks(pid) == (None, None):
            found[pid] = process.started
    return found


def start_known(
    spawn: Callable[[], subprocess.Popen[bytes]], pool: Cells | None = None
) -> tuple[subprocess.Popen[bytes], Place | None]:
    """Start a process that only its owner reaps, as long as it is in `started`; its place if there
    are cgroups."""
    with _lock:
        if pool is not None:
            pool.enclose_all()
        process = spawn()
        started.add(process.pid)
        return process, pool.admit(process.pid) if pool is not None else None


def enclose(pool: Cells, place: Place) -> None:
    """Move the process into a cgroup of its own, unless that has been done."""
    with _lock:
        pool.enclose(place)


def settle(pool: Cells, place: Place) -> None:
    """Call it when the process has ended, before it is reaped."""
    with _lock:
        pool.settle(place)


def forget(process: subprocess.Popen[bytes]) -> None:
    """Its number may be reused."""
    started.discard(process.pid)


def collect(group: int) -> list[int]:
    """Reap the dead of this group and all dead orphans; returns the living orphans."""
    with suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    with _lock:
        return [pid for pid in _list_children() if not _reap(pid)]


def has_members(group: int) -> bool:
    """Whether the group still has members once its dead are reaped."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _list_children() -> list[int]:
    try:
        fd = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
        try:
            found = b"".join(iter(lambda: os.read(fd, _READ_BYTES), b""))
        finally:
            os.close(fd)
    except OSError:
        return []
    return [pid for pid in map(int, found.split()) if pid not in started]


def _reap(pid: int) -> bool:
    """Reap a dead orphan; True when it was one. Children of other parts of the worker share its
    session and are left alone; leftovers of a step never share it."""
    process = strays.read_process(pid)
    if process is None or process.state not in "ZX" or process.sid == os.getsid(0):
        return False
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return True
