"""Whether the kernel killed processes here because memory had run out, and what to say then.

The kernel counts such kills in the memory cgroup of the victim, which is the worker's own: Slurm, a
container engine or a service manager has limited both together. Without a cgroup, the count is the
host's.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path

from engine.resources import show_bytes

_ROOT = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


_KILLED = 128 + 9
_NEARLY = 0.9  # of the memory that a step declares


class OutOfMemory:
    """Notices kills. It looks only when a step failed, so a success costs nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen = _count()

    @property
    def is_own(self) -> bool:
        """Whether the count is of this worker's processes alone."""
        return _counter().name != "vmstat"

    def has_struck(self) -> bool:
        """Whether there was a kill since this object was made, or since the last call."""
        with self._lock:
            before, self._seen = self._seen, _count()
            return self._seen > before

    def explain(self, exit_code: int, peak_bytes: int, declared: int | None) -> str | None:
        """A sentence if a process of a step failed because memory had run out."""
        used = f"one of the step's processes had used {show_bytes(peak_bytes)}"
        has_struck, is_killed = self.has_struck(), exit_code == _KILLED
        if has_struck and self.is_own:
            what = "the step" if is_killed else "a process of this worker"
            return f"Out of memory: the kernel killed {what}; {used}"
        is_near = declared is not None and peak_bytes >= declared * _NEARLY
        if is_killed and (has_struck or is_near):
            return f"Most likely out of memory: it was killed, and {used}"
        return None


def _count() -> int:
    return next((int(line[9:]) for line in _lines(_counter()) if line.startswith("oom_kill ")), 0)


@cache
def _counter() -> Path:
    """The file with the count: of cgroup 2, of cgroup 1, or of the host."""
    for line in _lines(_PROC / "self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            file = _ROOT / "memory" / path.lstrip("/") / "memory.oom_control"
        elif not controllers:
            file = _ROOT / path.lstrip("/") / "memory.events"
        else:
            continue
        if file.exists():
            return file
    return _PROC / "vmstat"


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
