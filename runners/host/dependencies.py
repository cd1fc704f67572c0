"""Environments with a script's dependencies, installed once per content and kept.

An environment is a directory named after its content: language, toolchain, dependencies. A user
holds a shared lock on it and an installer an exclusive one, so that twenty concurrent first runs on
a host install once, in any number of worker processes. A directory counts only once its `.ready`
file exists: a killed install starts over.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from runners.host.environment import User

_READY = ".ready"
_LOOK_INTERVAL_S = 0.1
_TOUCH_INTERVAL_S = 3600.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make an environment. `commands` run in its directory, in order."""

    language: str
    toolchain: tuple[str, ...]  # identifies the installed toolchain
    dependencies: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    files: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Equal for equal content; the order in which dependencies are named does not matter."""
        content = [
            self.language,
            self.toolchain,
            sorted(set(self.dependencies)),
            sorted(self.files.items()),
        ]
        return f"{self.language}-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]}"


class EnvironmentCache:
    """The environments of one host, below `root`. With a `user`, steps get them read-only."""

    def __init__(self, root: Path, user: User | None = None) -> None:
        self._user = user
        # Steps under another user may read this; the mode of each folder below says who may write.
        self._mode = 0o700 if user is None else 0o755
        suffix = "" if user is None else f"-{user.name}"
        self._environments = root / f"environments{suffix}"
        self._locks = root / f"locks{suffix}"
        self.tools = root / f"tools{suffix}"

    def prepare(self) -> None:
        """Make the directories; safe to repeat."""
        for directory in (self._environments, self._locks, self.tools):
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(self._mode)
        if self._user is not None:
            os.chown(self.tools, self._user.uid, self._user.gid)

    @contextmanager
    def hold(
        self,
        recipe: Recipe,
        install: Callable[[Path], None],
        pause: Callable[[float], None],
        notify: Callable[[str], None],
    ) -> Iterator[Path]:
        """The directory of `recipe`'s environment, safe from pruning while held.

        `install` is called by one holder only; its exceptions are passed on, and nothing stays.
        `pause(seconds)` is called while another holder installs, and may raise to give up. `notify`
        gets a message about anything slow.
        """
        directory = self._environments / recipe.key
        lock = os.open(self._locks / recipe.key, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not self._try_share(lock, directory):
                self._make(lock, directory, recipe, install, pause, notify)
            yield directory
        finally:
            os.close(lock)

    def _try_share(self, lock: int, directory: Path) -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return _use(directory)
        return False

    def _make(
        self,
        lock: int,
        directory: Path,
        recipe: Recipe,
        install: Callable[[Path], None],
        pause: Callable[[float], None],
        notify: Callable[[str], None],
    ) -> None:
        fcntl.flock(lock, fcntl.LOCK_UN)
        is_told = False
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if self._try_share(lock, directory):
                    return
                if not is_told:
                    notify("Waiting: another step is installing the same dependencies")
                    is_told = True
                pause(_LOOK_INTERVAL_S)
                continue
            if not _use(directory):
                self._install(directory, recipe, install, notify)
            fcntl.flock(lock, fcntl.LOCK_SH)
            return

    def _install(
        self,
        directory: Path,
        recipe: Recipe,
        install: Callable[[Path], None],
        notify: Callable[[str], None],
    ) -> None:
        notify(f"Installing dependencies: {', '.join(recipe.dependencies)}")
        began = time.monotonic()
        _remove(directory)
        directory.mkdir(mode=0o700)
        try:
            for name, text in recipe.files.items():
                (directory / name).write_text(text)
            if self._user is not None:
                for path in (directory, *directory.iterdir()):
                    os.chown(path, self._user.uid, self._user.gid)
            install(directory)
            if self._user is not None:
                _take_over(directory)
            (directory / _READY).touch(mode=0o600)
        except BaseException:
            _remove(directory)
            raise
        notify(f"Dependencies installed in {time.monotonic() - began:.1f} s")

    def prune(self, unused_s: float) -> None:
        """Remove environments unused for `unused_s` seconds, and abandoned incomplete ones."""
        if not self._environments.is_dir():
            return
        for directory in self._environments.iterdir():
            with suppress(OSError):
                self._prune_one(directory, unused_s)

    def _prune_one(self, directory: Path, unused_s: float) -> None:
        lock = os.open(self._locks / directory.name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            ready = directory / _READY
            if not ready.exists() or time.time() - ready.stat().st_mtime > unused_s:
                _remove(directory)
        finally:
            os.close(lock)


def _use(directory: Path) -> bool:
    """Whether the environment is ready; records its use from time to time."""
    ready = directory / _READY
    try:
        last = ready.stat().st_mtime
    except FileNotFoundError:
        return False
    if time.time() - last > _TOUCH_INTERVAL_S:
        os.utime(ready)
    return True


def _take_over(directory: Path) -> None:
    """Give a tree written by a step's user to the worker: readable by all, writable by no other
    user."""
    for path, _, files in os.walk(directory):
        os.chown(path, os.geteuid(), os.getegid())
        os.chmod(path, 0o755)  # noqa: S103 - steps read the installed packages
        for name in files:
            file = os.path.join(path, name)
            os.chown(file, os.geteuid(), os.getegid(), follow_symlinks=False)
            if not os.path.islink(file):
                os.chmod(file, 0o755 if os.stat(file).st_mode & 0o100 else 0o644)


def _remove(directory: Path) -> None:
    if directory.exists():
        shutil.rmtree(directory)
