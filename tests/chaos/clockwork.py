"""Schedulers' clocks at the time that a file says: `python -m tests.chaos.clockwork FILE COUNT`.

The first process only keeps COUNT others alive, which it forks: whoever is killed is followed by
another one at once, so that even frequent kills hit processes at work.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime
from pathlib import Path

import django


def main(file: Path, count: int) -> None:
    django.setup()
    from apps.triggers import clocks  # noqa: F401  (before the fork)

    alive: set[int] = set()
    while True:
        while len(alive) < count:
            if (pid := os.fork()) == 0:
                work(file)
            alive.add(pid)
        alive.discard(os.wait()[0])


def work(file: Path) -> None:
    from apps.triggers import clocks

    while True:
        if not clocks.fire_due(datetime.fromisoformat(file.read_text())):
            time.sleep(0.03)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
