"""Drives bare Celery: worker processes of both pools, and the canvases."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

POOLS = ("prefork", "threads")
TIMEOUT_S = 600


@contextmanager
def workers(url: str, processes: int, slots: int, log: Path) -> Iterator[None]:
    """`processes` workers with `slots` slots for each pool; each pool has its own queue."""
    os.environ["BARE_URL"] = url
    running = [
        subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "celery",
                    "-A",
                    "benchmarks.celery_app",
                    "worker",
                    "-P",
                    pool,
                    "-c",
                    str(slots),
                ),
                *(
                    "-Q",
                    pool,
                    "-n",
                    f"{pool}{number}@bench",
                    "--without-gossip",
                    "--without-mingle",
                    "-l",
                    "WARNING",
                ),
            ],
            stdout=log.open("ab"),
            stderr=subprocess.STDOUT,
            env=os.environ | {"BARE_URL": url},
        )
        for pool in POOLS
        for number in range(processes)
    ]
    try:
        for pool in POOLS:
            _fan_out(pool, 16)  # warm, and proof that they run
        yield
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def chain(pool: str, count: int) -> float:
    from celery import chain as chained

    return _timed([chained(*[_step(pool) for _ in range(count)])], pool)


def fan_out(pool: str, count: int) -> float:
    return _fan_out(pool, count)


def _fan_out(pool: str, count: int) -> float:
    return _timed([_spread(pool, count)], pool)


def diamonds(pool: str, count: int, width: int) -> float:
    return _timed([_spread(pool, width) for _ in range(count)], pool)


def _spread(pool: str, width: int) -> Any:
    from celery import chain as chained
    from celery import group

    return chained(_step(pool), group(*[_step(pool) for _ in range(width)]), _step(pool))


def _step(pool: str) -> Any:
    from benchmarks.celery_app import step

    return step.si().set(queue=pool)


def _timed(canvases: list[Any], pool: str) -> float:
    began = time.perf_counter()
    results = [canvas.apply_async(queue=pool) for canvas in canvases]
    for result in results:
        result.get(timeout=TIMEOUT_S, interval=0.002)
    took = time.perf_counter() - began
    for result in results:
        result.forget()
    return took
