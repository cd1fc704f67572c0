"""A cgroup for each step, where the system lets us make one: whatever a step starts stays in it.

No `setsid`, double fork, emptied environment or `su` leads out of a cgroup. It needs a cgroup v2
file system in which this process may make folders and move processes: root has it, and users in a
delegated slice. Few modules of the standard library only: the guard process imports this.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from runners.guard import strays

_PREFIX = "stroem-"
_EMPTY_S = 2.0


class Cells:
    """The cgroups of one worker process, below one folder; each is used again."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._idle: list[str] = []
        self._made = 0

    def take(self, pid: int) -> str | None:
        """Move this process, which has just been started, into a cgroup of its own; None if the
        system refuses. What it has started by now follows, even what this process adopted: call
        it for one process at a time, so that an orphan outside of all cgroups is known to be its.
        """
        try:
            path = self._pick()
        except OSError:
            return None
        try:
            _move(pid, path)
        except ProcessLookupError:
            self.give_back(path)
            return None
        except OSError:
            return None
        moved = {pid}
        while early := self._list_outside(pid) - moved:
            for child in early:
                with suppress(OSError):
                    _move(child, path)
            moved |= early
        return path

    def _list_outside(self, pid: int) -> set[int]:
        """What descends from `pid`, and orphans that are younger, outside of our cgroups."""
        found = set(strays.list_below(pid))
        parent, own = strays.read_process(pid), os.getpid()
        for orphan in strays.list_children(own, own):
            process = strays.read_process(orphan) if orphan != pid else None
            if process is None or parent is None or process.age < parent.age:
                continue
            if process.sid not in (os.getsid(0), *strays.guards) and not self._holds(orphan):
                found |= {orphan, *strays.list_below(orphan)}
        return found

    def _holds(self, pid: int) -> bool:
        try:
            with open(f"/proc/{pid}/cgroup", "rb") as file:
                return f"/{os.path.basename(self.root)}/".encode() in file.read()
        except OSError:
            return True  # it has ended

    def give_back(self, path: str) -> None:
        """Use it again, unless something in it would not die."""
        if not strays.is_occupied(path):
            self._idle.append(path)

    def _pick(self) -> str:
        if self._idle:
            return self._idle.pop()
        self._made += 1
        path = f"{self.root}/{self._made}"
        os.mkdir(path)
        return path


def make(keeper: str) -> Cells | None:
    """Cgroups for the steps of the process that `keeper` names; None where the system has none for
    us. Removes empty ones of dead workers."""
    parent = find_parent()
    if parent is None:
        return None
    for name in os.listdir(parent):
        owner = name.removeprefix(_PREFIX)
        if name != owner and strays.has_ended(owner.replace("_", "/")):
            _remove_empty(f"{parent}/{name}")
    root = f"{parent}/{_PREFIX}{keeper.replace('/', '_')}"
    with suppress(OSError):
        os.makedirs(f"{root}/0", exist_ok=True)
        if _can_move(f"{root}/0"):
            return Cells(root)
    remove(root)
    return None


def find_parent() -> str | None:
    """The folder of this process's cgroup in the cgroup v2 file system, if it may make others
    there."""
    try:
        with open("/proc/self/mountinfo") as file:
            mounts = [line.split() for line in file]
        with open("/proc/self/cgroup") as file:
            own = [line.rstrip("\n") for line in file if line.startswith("0::")]
    except OSError:
        return None
    for fields in mounts:
        if own and fields[fields.index("-") + 1] == "cgroup2" and fields[3] == "/":
            path = f"{fields[4]}{own[0].removeprefix('0::')}".rstrip("/")
            if os.access(path, os.W_OK) and os.access(f"{path}/cgroup.procs", os.W_OK):
                return path
    return None


def remove(root: str) -> None:
    """End what is in the cgroups below `root`, and remove them."""
    deadline = time.monotonic() + _EMPTY_S
    while time.monotonic() < deadline:
        strays.kill_members(root)
        strays.send(signal.SIGKILL, strays.list_members(root))
        _remove_empty(root)  # refused until the last process is wholly gone
        if not os.path.exists(root):
            return
        time.sleep(0.01)


def _remove_empty(root: str) -> None:
    for path, _, _ in os.walk(root, topdown=False):
        with suppress(OSError):
            os.rmdir(path)


def _move(pid: int, path: str) -> None:
    fd = os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(pid).encode())
    finally:
        os.close(fd)


def _can_move(path: str) -> bool:
    import subprocess  # the guard process has no use for it

    process = subprocess.Popen(
        ["sleep", "60"], env={"PATH": os.defpath}, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        _move(process.pid, path)
        return process.pid in strays.list_members(path)
    finally:
        process.kill()
        process.wait()
