"""Which processes belong to an attempt, and ending them all.

A process group is not enough: `setsid` and daemons leave it. Every process of a step carries two marks in its
environment, which children inherit: the attempt, and the keeper (the guard process, or the worker without one) that
answers for it. Standard library only, and little of it: the guard process imports this.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple

ATTEMPT_MARK = "STROEM_ATTEMPT"
KEEPER_MARK = "STROEM_GUARD"
_SCAN_INTERVAL_S = 0.05
_HAS_PROC = sys.platform == "linux"


class Process(NamedTuple):
    """What the system knows of a process. `started` is in clock ticks since boot, 0 where unknown."""

    pid: int
    ppid: int
    pgid: int
    sid: int
    state: str
    started: int


def identify(pid: int) -> str:
    """A name for one process that another process with the same number never has."""
    process = read_process(pid)
    return f"{pid}-{process.started if process else 0}"


def is_alive(identity: str) -> bool:
    """Whether the process that `identify` once named still runs."""
    number, _, started = identity.partition("-")
    if not number.isdigit():
        return False
    process = read_process(int(number))
    return (
        process is not None and process.state not in "ZX" and (not process.started or str(process.started) == started)
    )


def read_process(pid: int) -> Process | None:
    """None when there is no such process."""
    if not _HAS_PROC:
        return next((process for process in _list_by_ps() if process.pid == pid), None)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return Process(pid, int(fields[1]), int(fields[2]), int(fields[3]), fields[0].decode(), int(fields[19]))
    except (OSError, IndexError, ValueError):
        return None


def read_marks(pid: int) -> tuple[str | None, str | None]:
    """(attempt, keeper) of a process; None where it carries no such mark or may not be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            environment = b"\0" + file.read()
    except OSError:
        return None, None
    return _find_mark(environment, ATTEMPT_MARK), _find_mark(environment, KEEPER_MARK)


def _find_mark(environment: bytes, name: str) -> str | None:
    _, found, rest = environment.partition(f"\0{name}=".encode())
    return rest.partition(b"\0")[0].decode("utf-8", "replace") if found else None


def list_processes() -> list[Process]:
    if not _HAS_PROC:
        return _list_by_ps()
    found = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process is not None]


def _list_by_ps() -> list[Process]:
    """The same where there is no /proc; sessions are unknown there and read as the group."""
    import subprocess  # costs the guard process memory, and is not needed where /proc is

    listing = subprocess.run(["ps", "-axo", "pid=,ppid=,pgid=,stat="], capture_output=True, text=True, check=False)
    rows = [line.split() for line in listing.stdout.splitlines()]
    return [Process(int(row[0]), int(row[1]), int(row[2]), int(row[2]), row[3][0], 0) for row in rows if len(row) >= 4]


def find(groups: Iterable[int] = (), attempt: str | None = None, keeper: str | None = None) -> set[int]:
    """Living processes of these groups and sessions, with this mark, and all their descendants. Never the caller."""
    groups, spared = frozenset(groups), {os.getpid(), 1}
    alive = [process for process in list_processes() if process.state not in "ZX" and process.pid not in spared]
    found = {process.pid for process in alive if process.pgid in groups or process.sid in groups}
    if _HAS_PROC:
        found |= {
            process.pid for process in alive if process.pid not in found and _is_marked(process.pid, attempt, keeper)
        }
    grown = bool(found)
    while grown:
        young = {process.pid for process in alive if process.ppid in found} - found
        found |= young
        grown = bool(young)
    return found


def _is_marked(pid: int, attempt: str | None, keeper: str | None) -> bool:
    its_attempt, its_keeper = read_marks(pid)
    return (attempt is not None and its_attempt == attempt) or (keeper is not None and its_keeper == keeper)


def send(number: signal.Signals, pids: Iterable[int], groups: Iterable[int] = ()) -> None:
    """Signal whole groups (nothing slips through by forking), and once each process that is in none of them."""
    groups = frozenset(groups)
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            if os.getpgid(pid) not in groups:
                os.kill(pid, number)


def end(
    search: Callable[[], set[int]],
    groups: Iterable[int],
    grace_s: float,
    give_up_s: float = 10.0,
    between: Callable[[], object] = lambda: None,
) -> set[int]:
    """TERM, then KILL after `grace_s`, until `search` finds nothing twice in a row; the answer is what would not die.

    Twice, because a child that has not called exec yet does not show its mark. `between` is called between looks.
    """
    groups = tuple(groups)
    began = time.monotonic()
    send(signal.SIGTERM, search(), groups)
    empty_looks = 0
    while True:
        found = search()
        empty_looks = 0 if found else empty_looks + 1
        waited = time.monotonic() - began
        if empty_looks >= 2 or waited > give_up_s:
            return found
        if found and waited >= grace_s:
            send(signal.SIGKILL, found, groups)
        between()
        time.sleep(_SCAN_INTERVAL_S)
