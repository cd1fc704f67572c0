"""Orphans of steps: the worker adopts them, so that a look at a short list shows what a step left
running.

A process whose parent ended becomes a child of the nearest subreaper above it, and is listed under
that process's main thread. What the worker starts itself, in other threads, is not on that list;
with luck it is empty.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

from runners.guard import strays

PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
_READ_BYTES = 1 << 16

_lock = threading.Lock()  # a process that just started may not be collected before it is known
_started: set[int] = set()


def set_process_option(option: int, value: int) -> bool:
    """prctl(2); False where the system does not have it or refuses."""
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) == 0)


def adopt() -> bool:
    """Become the parent of every process whose parent ends below this one; False where the system
    cannot."""
    return set_process_option(PR_SET_CHILD_SUBREAPER, 1)


def start(spawn: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    """Start a process that its owner waits for, until `forget`."""
    with _lock:
        process = spawn()
        _started.add(process.pid)
    return process


def forget(pid: int) -> None:
    _started.discard(pid)


def collect(group: int) -> list[int]:
    """Reap what is dead of this group and of all orphans; the answer is the orphans that live."""
    with suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    with _lock:
        return [pid for pid in _list_children() if not _reap(pid)]


def has_members(group: int) -> bool:
    """Whether anything of the group is left, once its dead are collected."""
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
    return [pid for pid in map(int, found.split()) if pid not in _started]


def _reap(pid: int) -> bool:
    """Reap a dead orphan; True when it was one. A child of another part of the worker shares the
    worker's session and is left alone; what a step leaves never does."""
    process = strays.read_process(pid)
    if process is None or process.state not in "ZX" or process.sid == os.getsid(0):
        return False
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return True
