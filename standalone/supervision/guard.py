"""Ends the programs of a process that vanished. Run as `python -I -S guard.py`, with the lifeline
as standard input.

Lines: `+PID STAGE SIGNAL:SECONDS,SIGNAL:SECONDS,...` to watch over a process, `-PID` to forget it,
`=PATH` for a directory of temporary files. When the other end of the pipe is gone, for whatever
reason, stage after stage gets its signals, each followed by its time, then KILL; at last the
directories go. Imports nothing of the project: it starts in some ten milliseconds and cannot break
with it.
"""

import contextlib
import os
import select
import shutil
import signal
import sys
import time


class Watched:
    """One process. Held by a descriptor where the system has them, so that a reused id is never
    hit."""

    def __init__(self, pid, stage, steps):
        self.pid, self.stage, self.steps = pid, stage, steps
        try:
            self.fd = os.pidfd_open(pid)
        except (AttributeError, OSError):
            self.fd = None

    def is_gone(self):
        if self.fd is not None:
            return bool(select.select([self.fd], [], [], 0)[0])
        try:
            os.kill(self.pid, 0)
        except OSError:
            return True
        return False

    def send(self, number):
        with contextlib.suppress(OSError):
            if self.fd is not None:
                signal.pidfd_send_signal(self.fd, number)
            else:
                os.kill(self.pid, number)

    def kill_group(self):
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)


def watch(lines):
    """Reads until the lifeline ends; answers what is still watched then, and the directories to
    remove."""
    watched, folders = {}, []
    for line in lines:
        words = line.split()
        if line.startswith("+") and len(words) == 3:
            pid = int(words[0][1:])
            steps = [
                (int(number), float(seconds))
                for number, seconds in (s.split(":") for s in words[2].split(","))
            ]
            watched[pid] = Watched(pid, int(words[1]), steps)
        elif line.startswith("-"):
            forgotten = watched.pop(int(line[1:]), None)
            if forgotten is not None and forgotten.fd is not None:
                os.close(forgotten.fd)
        elif line.startswith("="):
            folders.append(line[1:].rstrip("\n"))
    return list(watched.values()), folders


def end(stage):
    """Ends every process of one stage: all at the same time, each by its own signals."""
    began, at = time.monotonic(), {}
    while True:
        alive = [process for process in stage if not process.is_gone()]
        if not alive:
            break
        for process in alive:
            step, due = at.get(process.pid, (-1, began))
            if time.monotonic() >= due:
                step += 1
                number, seconds = (
                    process.steps[step] if step < len(process.steps) else (signal.SIGKILL, 1.0)
                )
                process.send(number)
                at[process.pid] = (step, time.monotonic() + seconds)
        time.sleep(0.02)
    for process in stage:
        process.kill_group()


def remove(folder):
    """Removes a directory although some within are closed to writing, as the copies of workspaces
    are."""
    for path, names, _ in os.walk(folder):
        for name in names:
            inner = os.path.join(path, name)
            if not os.path.islink(inner):
                with contextlib.suppress(OSError):
                    os.chmod(inner, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def main():
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    watched, folders = watch(sys.stdin)
    for stage in sorted({process.stage for process in watched}):
        end([process for process in watched if process.stage == stage])
    for folder in folders:
        remove(folder)


if __name__ == "__main__":
    main()
