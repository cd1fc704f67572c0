"""Whether the kernel killed processes here because memory had run out.

The kernel counts such kills in the memory cgroup of the victim, which is the worker's own: Slurm, a
container engine or a service manager has limited both together. Without a cgroup, the count is the
host's.
"""

from __future__ import annotations

import threading
from functools import cache
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_PROC = Path("/proc")


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
