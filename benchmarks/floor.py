"""The floor: the cost of the same steps run only by the shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

SHELL = shutil.which("bash") or "/bin/sh"


def step(shell: str = SHELL) -> None:
    subprocess.run(
        [shell, "-c", "true"], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )


def serial(count: int, shell: str = SHELL) -> float:
    """Seconds for `count` steps one after the other."""
    began = time.perf_counter()
    for _ in range(count):
        step(shell)
    return time.perf_counter() - began


def parallel(count: int, shell: str = SHELL) -> float:
    """Seconds for `count` steps on one thread per core."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda _: None, range(8)))  # threads started
        began = time.perf_counter()
        list(pool.map(lambda _: step(shell), range(count)))
        return time.perf_counter() - began
