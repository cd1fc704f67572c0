#!/usr/bin/env python
"""The one entry point: every operation is a management command."""

import base64
import gc
import os
import signal
import sys
from importlib.util import find_spec

from stroem_project import handover

KEEP_NOTHING = (["run"], ["validate"])


def main() -> None:
    gc.disable()  # until the command is found: a start makes much and leaves no garbage
    # one who ignores the ends of its children passes that on, and every program seems to succeed
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    handover.settle()
    # so they seal with a key that nobody keeps, and need no place to write; but what `validate
    # --workspace` reads of the database was sealed before
    command = sys.argv[1:2]
    reads_stored = command == ["validate"] and any(word.startswith("--w") for word in sys.argv)
    if command in KEEP_NOTHING and not reads_stored and not os.environ.get("STROEM_KEYS"):
        os.environ["STROEM_KEYS"] = base64.urlsafe_b64encode(os.urandom(32)).decode()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "stroem_project.settings")
    missing = next((name for name in ("django", "psycopg") if find_spec(name) is None), None)
    if missing is not None:
        print(
            f"This Python ({sys.executable}) does not have Stroem's packages (no {missing}): run"
            " `make install` once, then use .venv/bin/python or `. .venv/bin/activate`.",
            file=sys.stderr,
        )
        sys.exit(2)
    from console import streams

    streams.settle()
    with streams.guarded():
        from console.program import main as run

        run(sys.argv)


if __name__ == "__main__":
    main()
