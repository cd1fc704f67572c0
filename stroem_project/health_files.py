"""Files whose age tells a probe how a process without a port is: `alive` and `ready`, in the folder
that STROEM_HEALTH_DIR names."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

EVERY_S = 5.0


def touch(name: str) -> None:
    """Nothing happens where no folder is named."""
    if folder := os.environ.get("STROEM_HEALTH_DIR"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / name).touch()


def keep_touching(is_ready: Callable[[], bool]) -> None:
    """`alive` for as long as threads run here, `ready` while `is_ready` says so."""

    def run() -> None:
        pause = threading.Event()
        while True:
            touch("alive")
            if is_ready():
                touch("ready")
            pause.wait(EVERY_S)

    if "STROEM_HEALTH_DIR" in os.environ:
        threading.Thread(target=run, name="health", daemon=True).start()
