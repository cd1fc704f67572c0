"""A process that a step left running: it puts links in place of what the worker is about to touch.

Each line on standard input is a JSON object: `swap` names paths to exchange with links to `to`, again
and again; `make` is spoilt first. It answers "ready" after its first exchanges. With "watch" as its
argument it exchanges whenever the worker touches a directory, else all the time.
"""

import ctypes
import json
import os
import select
import sys
from contextlib import suppress

LIBC = ctypes.CDLL(None, use_errno=True)
EXCHANGE, AT_FDCWD = 2, -100
TOUCHED = 0x20 | 0x4 | 0x100 | 0x200 | 0x80  # open, attributes, create, delete, moved to


def exchange(one: str, other: str) -> bool:
    done = LIBC.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), EXCHANGE)
    return bool(done == 0)


def swap(path: str, to: str, tag: str) -> None:
    link = f"{path}.{tag}"
    with suppress(OSError):
        os.symlink(to, link)
    if not exchange(path, link):
        with suppress(OSError):
            os.symlink(to, path)


def spoil(root: str) -> None:
    """All that makes the worker act: new directories, closed ones, changed files and modes."""
    for name in ("junk/a/b", "closed/a"):
        with suppress(OSError):
            os.makedirs(f"{root}/{name}", exist_ok=True)
            with open(f"{root}/{name}/file", "w") as file:
                file.write("x")
    with suppress(OSError):
        os.chmod(f"{root}/closed", 0)
    for folder, folders, files in os.walk(root):
        for name in files:
            with suppress(OSError), open(f"{folder}/{name}", "a") as file:
                file.write("y")
        for name in folders:
            if name != "closed":
                with suppress(OSError):
                    os.chmod(f"{folder}/{name}", 0o700)


def watch(folders: set[str]) -> int:
    fd = LIBC.inotify_init1(os.O_NONBLOCK)
    for folder in folders:
        LIBC.inotify_add_watch(fd, os.fsencode(folder), TOUCHED)
    return fd


def main() -> None:
    is_watching, tag = sys.argv[1] == "watch", sys.argv[1]
    paths: list[str] = []
    to, pending, eye, turn = "", b"", -1, 0
    while True:
        waiting = [0, eye] if is_watching and eye >= 0 else [0]
        able, _, _ = select.select(waiting, [], [], None if not paths else 0.002 * is_watching)
        if eye in able:
            os.read(eye, 1 << 16)
        if 0 in able:
            data = os.read(0, 1 << 16)
            if not data:
                return
            pending += data
            *lines, pending = pending.split(b"\n")
            for line in lines:
                order = json.loads(line)
                paths, to = order["swap"], order["to"]
                for folder in order.get("make", []):
                    spoil(folder)
                if is_watching:
                    if eye >= 0:
                        os.close(eye)
                    eye = watch({os.path.dirname(path) for path in paths})
                for path in paths:
                    swap(path, to, tag)
                print("ready", flush=True)
        if paths:
            turn += 1
            swap(paths[turn % len(paths)], to, tag)


main()
