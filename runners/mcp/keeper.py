"""Stands between the process for agents and a server's program: whatever the program starts ends
with it, and both end when the process for agents is gone, even after SIGKILL.

A program of its own, run with `-I -S`: it imports the standard library only. The program's input
and output are its own; this process touches neither.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

_SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 1, 36
_GRACE_S = 1.0  # between TERM and KILL; the caller waits for longer
_POLL_S = 0.02


def main(argv: list[str]) -> int:
    """Run `argv[3:]` as the user `argv[2]` in the folder `argv[1]`, which is removed at the end.
    `argv[0]` is the id of the process that must be our parent."""
    libc = ctypes.CDLL(None)
    if sys.platform == "linux":
        libc.prctl(_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.getppid() != int(argv[0]):
        return 1  # it was gone before we could ask to be told
    ours = {signal.SIGTERM, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, ours)
    uid, gid, groups = _user(argv[2])
    try:
        program = subprocess.Popen(
            argv[3:],
            cwd=argv[1],
            user=uid,
            group=gid,
            extra_groups=groups,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, ours),
        )
    except OSError as error:
        print(f"{argv[3]}: {error.strerror}", file=sys.stderr)
        return 127
    os.close(0)
    os.close(1)  # the caller sees the end of the program's output
    while program.poll() is None:
        if signal.sigwait(ours) == signal.SIGTERM:
            break
        _reap(program.pid)
    _end_all(program)
    shutil.rmtree(argv[1], ignore_errors=True)
    code = program.wait()
    return code if code >= 0 else 128 - code


def _user(word: str) -> tuple[int | None, int | None, list[int] | None]:
    """From `uid:gid:group:...`; empty means ours, which only root may change."""
    if not word or os.geteuid() != 0:
        return None, None, None
    uid, gid, *groups = map(int, word.split(":"))
    return uid, gid, groups


def _reap(but: int) -> None:
    """Orphans that ended."""
    for child in _children():
        if child != but:
            with suppress(ChildProcessError):
                os.waitpid(child, os.WNOHANG)


def _end_all(program: subprocess.Popen[bytes]) -> None:
    if program.poll() is None:
        program.terminate()
        with suppress(subprocess.TimeoutExpired):
            program.wait(_GRACE_S)
    while children := _children():
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        time.sleep(_POLL_S)
        program.poll()
        _reap(program.pid)


def _children() -> list[int]:
    """Also those whose parents are gone: they have become ours."""
    with suppress(OSError), open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(child) for child in file.read().split()]
    return []


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
