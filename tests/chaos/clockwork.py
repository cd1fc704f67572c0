"""A scheduler's clocks at the time that a file says: `python -m tests.chaos.clockwork FILE`."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from pathlib import Path

import django


def main(file: Path) -> None:
    django.setup()
    from apps.triggers import clocks

    print("ready", flush=True)
    while True:
        if not clocks.fire_due(datetime.fromisoformat(file.read_text())):
            time.sleep(0.005)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
