"""The system users that local steps run as: one for all, or one for each step at a time.

With one for each, a step finds no process and no file of another. Whatever still runs as its user
when it ends is killed, so each of these users belongs to one worker alone.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from engine.errors import PlatformError
from runners.host.environment import User, act_as, find_user
from workers.disk import lock_file

log = logging.getLogger("stroem.worker")
LOCKS = Path("/run")
END_S = 5.0


class Users:
    """Hands out users. Thread-safe."""

    def __init__(self, names: tuple[str, ...]) -> None:
        """Raises PlatformError if this worker cannot use them."""
        self.all = tuple(find_user(name) for name in names)
        self.is_exclusive = len(names) > 1
        self._lock = threading.Lock()
        self._free = deque(self.all)
        self._held: list[int] = []
        if self.is_exclusive:
            self._claim()

    def take(self, *, is_local: bool) -> User | None:
        """The user of a step that starts; with one user for each, containers get none of them."""
        if not self.is_exclusive:
            return self.all[0] if self.all else None
        if not is_local:
            return None
        with self._lock:
            if not self._free:
                raise PlatformError("all users of `run_as` are in use by other steps")
            return self._free.popleft()

    def give_back(self, user: User) -> None:
        if self.is_exclusive:
            with self._lock:
                self._free.append(user)

    def end_all(self, user: User) -> None:
        """End whatever still runs as the user of a step that has ended."""
        if not self.is_exclusive:
            return
        until = time.monotonic() + END_S
        while running := _find(user.uid):
            if time.monotonic() > until:
                log.warning("processes of %s cannot be ended: %s", user.name, running)
                return
            with suppress(OSError):  # it may have been hit by one of those it kills
                act_as(user, "sh", "-c", "kill -KILL -1")
            time.sleep(0.02)

    def close(self) -> None:
        for fd in self._held:
            os.close(fd)
        self._held.clear()

    def _claim(self) -> None:
        if os.geteuid() != 0 or any(user.uid == 0 for user in self.all):
            raise PlatformError(
                "several users in `run_as` need a worker that is root, and are not root themselves"
            )
        for user in self.all:
            self.check_group(user)
        for user in self.all:
            self._held.append(self._hold(user))
            self.end_all(user)  # a worker that was killed may have left something

    def check_group(self, user: User) -> None:
        first = self.all[0]
        if user.gid != first.gid:
            raise PlatformError(
                f"the users {first.name} and {user.name} of `run_as` and `run_actions_as` must have"
                " the same primary group: they share the jobs' output directories"
            )

    def _hold(self, user: User) -> int:
        file = LOCKS / f"stroem-user-{user.uid}.lock"
        try:
            fd = lock_file(file, is_blocking=False)
        except OSError as error:
            raise PlatformError(f"{file} cannot be locked: {error.strerror}") from error
        if fd is None:
            self.close()
            raise PlatformError(
                f"another worker of this host runs steps as {user.name}; give each its own users"
            )
        return fd


def _find(uid: int) -> list[int]:
    """Processes that run as this user, or were started by it."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/status", "rb") as file:
                lines = dict(line.partition(b":")[::2] for line in file.read().splitlines())
                is_over = lines[b"State"].split()[0] in (b"Z", b"X")
                if not is_over and str(uid).encode() in lines[b"Uid"].split():
                    found.append(int(name))
    return found
