"""Health of processes without a port: probes check the age of the files `alive` and `ready` in
STROEM_HEALTH_DIR."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

EVERY_S = 5.0


def touch(name: str) -> None:
    """Does nothing without STROEM_HEALTH_DIR."""
    if folder := os.environ.get("STROEM_HEALTH_DIR"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / name).touch()


def keep_touching(is_ready: Callable[[], bool]) -> None:
    """`alive` while threads run in this process, `ready` while `is_ready`."""

    def run() -> None:
        pause = threading.Event()
        while True:
            touch("alive")
            if is_ready():
                touch("ready")
            pause.wait(EVERY_S)

    if "STROEM_HEALTH_DIR" in os.environ:
        threading.Thread(target=run, name="health", daemon=True).start()
