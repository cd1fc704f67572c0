"""Which processes belong to an attempt, and ending them all.

A process group is not enough: `setsid` and daemons leave it. Every process of a step carries two
marks in its environment, which children inherit: the attempt, and the keeper (the worker, or its
guard) that is responsible for it. Whoever cannot judge whether a keeper lives leaves its processes
alone. Few modules of the standard library only: the guard process
imports this.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

# Workers of early versions look for other names, and end what a container's worker keeps.
ATTEMPT_MARK = "STROEM_MARK"
KEEPER_MARK = "STROEM_KEEPER"
_SCAN_INTERVAL_S = 0.05
_EMPTY_S = 2.0
_READ_BYTES = 1 << 16
_TURN = "+"
_HAS_PROC = sys.platform == "linux"
guards: set[int] = set()  # sessions of this process's guards, which may become its orphans


class Process(NamedTuple):
    """What the system knows about a process. `started` is in clock ticks since boot, 0 where
    unknown."""

    pid: int
    ppid: int
    pgid: int
    sid: int
    state: str
    started: int

    @property
    def age(self) -> tuple[int, int]:
        """Orders processes by birth: several begin within one tick, with rising pids."""
        return self.started, self.pid


def read_clock() -> float:
    """Seconds on the clock that owner and guard share; it keeps running while the machine sleeps,
    as leases do."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def identify(pid: int) -> str:
    """A name for a process that is unique even when its pid is reused."""
    process = read_process(pid)
    return f"{pid}-{process.started if process else 0}"


def identify_keeper(pid: int, turn: int = 0) -> str:
    """The name of a keeper in the mark of its processes. It also says where its number counts: a
    process in a container is seen from the host, too, where the number means another process.
    `turn`: which keeper of its process it is; each ends what bears its own name."""
    return f"{identify(pid)}{f'{_TURN}{turn}' if turn else ''}@{_find_place()}"


def mark(attempt: str, keeper: str) -> dict[str, str]:
    """The variables that mark the processes of an attempt."""
    return {ATTEMPT_MARK: attempt, KEEPER_MARK: keeper}


def has_ended(keeper: str) -> bool:
    """Whether the keeper has certainly ended. One of another pid namespace or another boot of a
    kernel cannot be judged here: its own guard and container end what it leaves."""
    identity, _, place = keeper.partition("@")
    return place == _find_place() and not is_alive(identity.partition(_TURN)[0])


def _find_place() -> str:
    """The kernel and the pid namespace of this process."""
    if not _HAS_PROC:
        return "host"
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        boot = file.read().decode().strip()
    return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"


def is_alive(identity: str) -> bool:
    """Whether the process that `identify` named still runs."""
    number, _, started = identity.partition("-")
    if not number.isdigit():
        return False
    process = read_process(int(number))
    if process is None:
        return _is_taken(int(number))
    return is_living(process) and (not process.started or str(process.started) == started)


def _is_taken(pid: int) -> bool:
    """Whether a process has this number. One that we may not or cannot read is not dead."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _read(path: str) -> bytes:
    """What a file of the kernel says: every step asks some, and `open` looks at each four times."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"".join(iter(lambda: os.read(fd, _READ_BYTES), b""))
    finally:
        os.close(fd)


def read_process(pid: int) -> Process | None:
    """None when there is no such process."""
    if not _HAS_PROC:
        return next((process for process in _list_by_ps() if process.pid == pid), None)
    try:
        fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        return Process(
            pid, int(fields[1]), int(fields[2]), int(fields[3]), fields[0].decode(), int(fields[19])
        )
    except (OSError, IndexError, ValueError):
        return None


def read_marks(pid: int) -> tuple[str | None, str | None]:
    """(attempt, keeper) of a process; None for a mark that is absent or unreadable."""
    try:
        environment = b"\0" + _read(f"/proc/{pid}/environ")
    except OSError:
        return None, None
    return _find_mark(environment, ATTEMPT_MARK), _find_mark(environment, KEEPER_MARK)


def _find_mark(environment: bytes, name: str) -> str | None:
    _, found, rest = environment.partition(f"\0{name}=".encode())
    return rest.partition(b"\0")[0].decode("utf-8", "replace") if found else None


def list_children(pid: int, thread: int | None = None) -> list[int]:
    """The children of a process, and orphans that it adopted, from all of its threads or from one:
    the main thread has the orphans."""
    found: list[int] = []
    try:
        names = os.listdir(f"/proc/{pid}/task") if thread is None else [str(thread)]
    except OSError:
        return found
    for name in names:
        # one that ended meanwhile has handed its children to another thread
        with suppress(OSError):
            found += map(int, _read(f"/proc/{pid}/task/{name}/children").split())
    return found


def list_below(pid: int, session: int | None = None) -> dict[int, int]:
    """pid -> start of the processes that descend from `pid`, but for those of `session`."""
    waiting, found = [pid], dict[int, int]()
    while waiting:
        for child in list_children(waiting.pop()):
            process = read_process(child)
            if process is not None and process.sid != session and child not in found:
                found[child] = process.started
                waiting.append(child)
    return found


def list_members(cell: str) -> set[int]:
    """The processes in a cgroup and those directly below it."""
    found: set[int] = set()
    with suppress(OSError):
        for folder in (cell, *(entry.path for entry in os.scandir(cell) if entry.is_dir())):
            with suppress(OSError), open(f"{folder}/cgroup.procs", "rb") as file:
                found.update(map(int, file.read().split()))
    return found


def is_occupied(cell: str | None) -> bool:
    """Whether a process lives in this cgroup or below it. Sure, where a look may miss one that
    forks and ends all the time."""
    if cell is None:
        return False
    try:
        with open(f"{cell}/cgroup.events", "rb") as file:
            return b"populated 1" in file.read()
    except OSError:
        return False


def kill_members(cell: str) -> None:
    """KILL everything in a cgroup at once, where the kernel can (5.14)."""
    with suppress(OSError), open(f"{cell}/cgroup.kill", "wb") as file:
        file.write(b"1")


def remove_cells(root: str) -> None:
    """End what is in the cgroups below `root`, and remove them."""
    deadline = time.monotonic() + _EMPTY_S
    while time.monotonic() < deadline:
        kill_members(root)
        send(signal.SIGKILL, list_members(root))
        remove_empty_cells(root)  # refused until the last process is wholly gone
        if not os.path.exists(root):
            return
        time.sleep(0.01)


def remove_empty_cells(root: str) -> None:
    """Remove those below `root`, and `root`, that hold no process."""
    for path, _, _ in os.walk(root, topdown=False):
        with suppress(OSError):
            os.rmdir(path)


def list_processes() -> list[Process]:
    if not _HAS_PROC:
        return _list_by_ps()
    found = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process is not None]


def _list_by_ps() -> list[Process]:
    """The same without /proc; sessions are unknown there, so the group stands in."""
    import subprocess  # costs the guard process memory, and is not needed with /proc

    listing = subprocess.run(
        ["ps", "-axo", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True, check=False
    )
    rows = [line.split() for line in listing.stdout.splitlines()]
    return [
        Process(int(row[0]), int(row[1]), int(row[2]), int(row[2]), row[3][0], 0)
        for row in rows
        if len(row) >= 4
    ]


class Hunt:
    """The search for all processes of some groups and marks. It remembers what it found: a process
    without a mark is identified by its parents, which may be gone at the next look."""

    def __init__(
        self,
        groups: Iterable[int] = (),
        attempt: str | None = None,
        keeper: str | None = None,
        cell: str | None = None,
    ) -> None:
        """`cell`: a cgroup whose members are hunted, see `offspring`."""
        self.groups = frozenset(groups)
        self.cell = cell
        self._attempt = attempt
        self._keeper = keeper
        self._known: dict[int, int] = {}

    def know(self, found: Mapping[int, int]) -> None:
        """Hunt these as well: pid -> start."""
        self._known.update(found)

    def look(self) -> set[int]:
        """The living ones with all their descendants. Never the caller."""
        spared = {os.getpid(), 1}
        alive = {
            process.pid: process
            for process in list_processes()
            if is_living(process) and process.pid not in spared
        }
        found = {pid for pid, process in alive.items() if self._is_hunted(process)}
        if self.cell is not None:
            found |= list_members(self.cell) & alive.keys()
        young = found
        while young:
            young = {pid for pid, process in alive.items() if process.ppid in found} - found
            found |= young
        self._known = {pid: alive[pid].started for pid in found}
        return found

    def kill(self, found: Iterable[int]) -> None:
        """KILL what a look found. A cgroup is killed as a whole: a process that forks faster than
        we look does not escape."""
        if self.cell is not None:
            kill_members(self.cell)
        send(signal.SIGKILL, found, self.groups)

    def has_known(self) -> bool:
        """Whether a process found at the last look lives; costs nothing when it found none."""
        found = (read_process(pid) for pid in self._known)
        return any(
            process and is_living(process) and process.started == self._known[process.pid]
            for process in found
        )

    def _is_hunted(self, process: Process) -> bool:
        if process.pgid in self.groups or process.sid in self.groups:
            return True
        if self._known.get(process.pid) == process.started:
            return True
        attempt, keeper = read_marks(process.pid) if _HAS_PROC else (None, None)
        return (attempt is not None and attempt == self._attempt) or (
            keeper is not None and keeper == self._keeper
        )


def is_living(process: Process) -> bool:
    """Whether it is not a zombie."""
    return process.state not in "ZX"


def send(number: signal.Signals, pids: Iterable[int], groups: Iterable[int] = ()) -> None:
    """Signal whole groups (no fork escapes), and each process outside of them once."""
    groups = frozenset(groups)
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) not in groups:
                os.kill(pid, number)


def end(
    hunt: Hunt,
    grace_s: float,
    give_up_s: float = 10.0,
    between: Callable[[], object] = lambda: None,
) -> set[int]:
    """TERM, then KILL after `grace_s`, until a look finds nothing twice in a row; returns what did
    not die.

    Twice, because a child does not show its mark before exec. `between` is called between looks.
    """
    began = time.monotonic()
    send(signal.SIGTERM, hunt.look(), hunt.groups)
    empty_looks = 0
    while True:
        found = hunt.look()
        is_empty = not found and not is_occupied(hunt.cell)
        empty_looks = empty_looks + 1 if is_empty else 0
        waited = time.monotonic() - began
        if empty_looks >= 2 or waited > give_up_s:
            return found
        if not is_empty and waited >= grace_s:
            hunt.kill(found)
        between()
        time.sleep(_SCAN_INTERVAL_S)
