"""What tests about processes look at: who is alive, and waiting for that to change."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil


def is_alive(pid: int) -> bool:
    """A zombie is not: on some machines the reaper of orphans takes its time."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def eventually(holds: Callable[[], object], within_s: float = 10.0) -> float:
    """Seconds until `holds()` was true; fails the test when that takes longer than `within_s`."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < within_s, f"not within {within_s} s"
        time.sleep(0.02)
    return time.monotonic() - began


def mentions(text: str) -> list[int]:
    """Processes that were started with `text` in their command line."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(
            text in word for word in process.info["cmdline"] or []
        ):
            found.append(process.info["pid"])
    return found


def guard_of(owner: int) -> int:
    """The guard process of `owner`: it has left the owner's tree but names it."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        line = process.info["cmdline"] or [""]
        if any("sentry.main" in word for word in line) and line[-1].startswith(f"{owner}-"):
            found.append(process.info["pid"])
    assert len(found) == 1, found
    return int(found[0])
