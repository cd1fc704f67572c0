"""The first process of a container keeps no credentials.

Its environment stays readable in `/proc/1/environ` for as long as the container lives, to every
process of its user, so also to local steps. So it puts the environment into a pipe and becomes an
init that knows nothing; the command that this init starts empties the pipe.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import sys
from collections.abc import Collection, Mapping
from typing import NoReturn

PIPE = "STROEM_ENVIRONMENT_PIPE"  # the descriptor's number
INIT = "tini"  # adopts and reaps what steps leave behind
_KEPT = frozenset({"PATH", "HOME", "LANG", "TZ", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"})
_MOST_BYTES = 1 << 20


def settle() -> None:
    """Call this first: hand the environment over, or take it."""
    if PIPE in os.environ:
        _take()
    elif os.getpid() == 1 and sys.platform == "linux":
        _hand_over(os.environ)


def _hand_over(environ: Mapping[str, str]) -> NoReturn:
    reading, writing = os.pipe()
    data = json.dumps(dict(environ)).encode("utf-8", "surrogateescape")
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, max(65_536, min(len(data) + 1, _MOST_BYTES)))
    os.set_blocking(writing, False)
    if os.write(writing, data) < len(data):
        sys.exit("configuration: the environment is larger than 1 MB; use a settings file")
    os.close(writing)
    os.set_inheritable(reading, True)
    kept = {name: value for name, value in environ.items() if name in _KEPT}
    init = shutil.which(INIT, path=environ.get("PATH"))
    argv = [*([init, "--"] if init else []), sys.executable, *sys.argv]
    os.execve(argv[0], argv, {**kept, PIPE: str(reading)})  # noqa: S606  (itself)


def _take() -> None:
    """Python's own copy changes, not what `/proc` shows: that is as it was at the start."""
    with os.fdopen(int(os.environ.pop(PIPE)), "rb") as pipe:
        found: dict[str, str] = json.loads(pipe.read().decode("utf-8", "surrogateescape"))
    os.environ.update(found)


def open_environments(secrets: Collection[str]) -> list[int]:
    """Processes above this one whose environment this user's processes can read, and that holds one
    of these values."""
    found, pid = [], os.getppid()
    while pid > 0:
        try:
            with open(f"/proc/{pid}/environ", "rb") as environ:
                held = environ.read()
            with open(f"/proc/{pid}/stat", "rb") as stat:
                parent = int(stat.read().rpartition(b")")[2].split()[1])
        except OSError:
            break
        if any(value.encode() in held for value in secrets):
            found.append(pid)
        pid = parent
    return found
