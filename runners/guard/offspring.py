"""What the processes of steps start: it stays in the cgroup of its step, where the system lets us
make one, and this process adopts and reaps what outlives its parent.

No `setsid`, double fork, emptied environment or `su` leads out of a cgroup. It needs a cgroup v2
file system in which this process may make folders and move processes: root has it, and users in a
delegated slice. Elsewhere, an orphan is known to be a step's by its age.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress

from runners.guard import strays

_PREFIX = "stroem-"
_READ_BYTES = 256

_lock = threading.Lock()  # a process that just started must not be reaped before it is registered
started: dict[int, subprocess.Popen[bytes]] = {}  # by its number, until that is free again
born: dict[int, tuple[int, int]] = {}  # process of a step without a cgroup -> its age


class Cell:
    """One cgroup, with its files open: names below /sys and /proc are dear to look up."""

    def __init__(self, path: str) -> None:
        os.mkdir(path)
        self.path = path
        self._members = os.open(f"{path}/cgroup.procs", os.O_WRONLY | os.O_CLOEXEC)
        self._events = os.open(f"{path}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)

    def add(self, pid: int) -> None:
        """Move this process into it. Raises OSError."""
        os.write(self._members, str(pid).encode())

    @property
    def is_occupied(self) -> bool:
        """Whether a process lives in it or below it."""
        with suppress(OSError):  # the guard has removed it
            return b"populated 1" in os.pread(self._events, _READ_BYTES, 0)
        return False

    def close(self) -> None:
        os.close(self._members)
        os.close(self._events)


class Place:
    """Where a step's process lives. `is_loose`: outside of all cgroups until it gets one.
    `is_refused`: the system gives it none."""

    __slots__ = ("cell", "is_loose", "is_refused", "pid")

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.cell: Cell | None = None
        self.is_loose = True
        self.is_refused = False


class Cells:
    """The cgroups of one worker process, below one folder; each is used again.

    The kernel lets a move wait for up to 20 ms, unless others went shortly before. So a process is
    moved only when the next one starts or when it has lasted for a moment. At most one is loose:
    an orphan outside of all cgroups is known to be its. Not thread-safe.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._idle: list[Cell] = []
        self._made = 0
        self._counter = _open_counter()
        self._loose: Place | None = None

    def admit(self, pid: int) -> Place:
        """The place of a process that has just been started, after `enclose_all`."""
        self._loose = Place(pid)
        return self._loose

    def enclose_all(self) -> None:
        """Call it before another process starts."""
        if self._loose is None:
            return
        if _has_ended(self._loose.pid):  # a move would be dear, and in vain
            self.settle(self._loose)
        else:
            self.enclose(self._loose)

    def enclose(self, place: Place) -> None:
        """Give the process a cgroup of its own, unless it has one. What it has started by now
        follows."""
        if not place.is_loose:
            return
        place.is_loose, self._loose = False, None
        try:
            cell = self._pick()
        except OSError:
            place.is_refused = True
            return
        try:
            cell.add(place.pid)
        except ProcessLookupError:
            pass
        except OSError:
            place.is_refused = True
            cell.close()
            return
        place.cell = cell
        if not self._is_newest(place.pid):
            self._gather(place, {place.pid})

    def settle(self, place: Place) -> None:
        """The process has ended, but its parent has not heard of it yet: what it left loose gets a
        cgroup."""
        if place.is_loose:
            place.is_loose, self._loose = False, None
            if not self._is_newest(place.pid):
                self._gather(place, set(), has_ended=True)

    def _gather(self, place: Place, moved: set[int], *, has_ended: bool = False) -> None:
        """Move what the process has started by now, even what this process adopted. One that has
        ended has no children: the kernel gave them away first."""
        while found := self._list_outside(place.pid, has_ended) - moved:
            try:
                place.cell = place.cell or self._pick()
            except OSError:
                place.is_refused = True
                return
            for pid in found:
                try:
                    place.cell.add(pid)
                except ProcessLookupError:
                    pass
                except OSError:  # the cgroup tells nothing of this one
                    place.is_refused = True
            moved |= found

    def _is_newest(self, pid: int) -> bool:
        """Whether no process has been started since this one; then it has no children."""
        if self._counter is None:
            return False
        return os.pread(self._counter, _READ_BYTES, 0).split()[-1] == str(pid).encode()

    def _list_outside(self, pid: int, has_ended: bool) -> set[int]:
        """What descends from `pid`, and orphans that are younger, outside of our cgroups."""
        found, own = set[int]() if has_ended else set(strays.list_below(pid)), os.getpid()
        orphans = [
            each for each in strays.list_children(own, own) if each != pid and each not in started
        ]
        parent = strays.read_process(pid) if orphans else None
        for orphan in orphans:
            process = strays.read_process(orphan)
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

    def give_back(self, cell: Cell) -> None:
        """Use it again, unless something in it would not die."""
        if cell.is_occupied:
            cell.close()
        else:
            self._idle.append(cell)

    def close(self) -> None:
        """No step follows."""
        while self._idle:
            self._idle.pop().close()
        if self._counter is not None:
            os.close(self._counter)
            self._counter = None

    def _pick(self) -> Cell:
        if self._idle:
            return self._idle.pop()
        self._made += 1
        return Cell(f"{self.root}/{self._made}")


def _has_ended(child: int) -> bool:
    """Whether this child has ended; its parent may not have heard of it yet."""
    try:
        return os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _open_counter() -> int | None:
    """The file whose last field is the number that was given to a process last; None where it is
    not the kernel's own."""
    try:
        fd = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        if os.fstat(fd).st_dev == os.stat("/proc/self").st_dev:
            return fd
    except OSError:
        return None
    os.close(fd)
    return None


def make_cells(keeper: str) -> Cells | None:
    """Cgroups for the steps of this keeper, which no other keeper uses; None where the system has
    none for us. Removes empty ones of dead workers."""
    parent = find_parent()
    if parent is None:
        return None
    for name in os.listdir(parent):
        owner = name.removeprefix(_PREFIX)
        if name != owner and strays.has_ended(owner.replace("_", "/")):
            strays.remove_empty_cells(f"{parent}/{name}")
    root = f"{parent}/{_PREFIX}{keeper.replace('/', '_')}"
    with suppress(OSError):
        os.makedirs(root, exist_ok=True)
        if _can_move(root):
            return Cells(root)
    strays.remove_cells(root)
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


def _can_move(root: str) -> bool:
    cell = Cell(f"{root}/0")
    process = subprocess.Popen(
        ["sleep", "60"], env={"PATH": os.defpath}, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        cell.add(process.pid)
        return process.pid in strays.list_members(cell.path)
    finally:
        cell.close()
        process.kill()
        process.wait()


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
        started[process.pid] = process
        return process, pool.admit(process.pid) if pool is not None else None


def enclose(pool: Cells, place: Place) -> None:
    """Move the process into a cgroup of its own, unless that has been done."""
    with _lock:
        pool.enclose(place)


def settle(pool: Cells, place: Place) -> None:
    """Call it when the process has ended, before it is reaped."""
    with _lock:
        pool.settle(place)


def reap(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """The wait status of a known process that has ended, and the most memory that it used, in KiB;
    as `Popen.wait`, which does not tell the latter. Raises ChildProcessError."""
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a debugger may keep it: no lock yet
    with _lock:  # what starts meanwhile may get its number
        _, status, usage = os.wait4(process.pid, 0)
        forget(process)
    return status, usage.ru_maxrss


def forget(process: subprocess.Popen[bytes]) -> None:
    """It is reaped: its number may be another's, or that of a process that is known by now."""
    if started.get(process.pid) is process:
        del started[process.pid]


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
    own = os.getpid()
    return [pid for pid in strays.list_children(own, own) if pid not in started]


def _reap(pid: int) -> bool:
    """Reap a dead orphan; True when it was one. Children of other parts of the worker share its
    session and are left alone; leftovers of a step never share it."""
    process = strays.read_process(pid)
    if process is None or process.state not in "ZX" or process.sid == os.getsid(0):
        return False
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return True
