"""Environments with a script's dependencies, installed once per content and kept.

An environment is a directory named after its content: language, toolchain, dependencies. A user
holds a shared lock on it and an installer an exclusive one, so that twenty concurrent first runs on
a host install once, in any number of worker processes. A directory counts only once its `.ready`
file exists: a killed install starts over.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import PlatformError
from runners import anchored
from runners.host.environment import User

_READY = ".ready"
_LOOK_INTERVAL_S = 0.1
_TOUCH_INTERVAL_S = 3600.0
_DEEPEST = 200  # directories in each other, each with a descriptor


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

    @property
    def _owner(self) -> anchored.Owner | None:
        return (self._user.uid, self._user.gid) if self._user is not None else None

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
            with anchored.folder(directory) as fd:
                for name, text in recipe.files.items():
                    anchored.write(name, text.encode(), fd, self._owner)
                if self._owner is not None:
                    os.fchown(fd, *self._owner)
                install(directory)
                if self._owner is not None:
                    _take_over(fd, self._owner[0])
                anchored.write(_READY, b"", fd)
        except BaseException as error:
            _remove(directory)
            if isinstance(error, OSError):
                raise PlatformError(
                    f"dependencies could not be installed: {error.strerror}"
                ) from error
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
            last = _last_use(directory)
            if last is None or time.time() - last > unused_s:
                _remove(directory)
        finally:
            os.close(lock)


def _last_use(directory: Path) -> float | None:
    """When the environment was last used; None if it is not ready. What an installer left behind
    does not count: only this process's user makes an environment ready."""
    try:
        found, ready = os.lstat(directory), os.lstat(directory / _READY)
    except FileNotFoundError:
        return None
    is_own = found.st_uid == ready.st_uid == os.geteuid()
    return ready.st_mtime if is_own and stat.S_ISREG(ready.st_mode) else None


def _use(directory: Path) -> bool:
    """Whether the environment is ready; records its use from time to time."""
    last = _last_use(directory)
    if last is None:
        return False
    if time.time() - last > _TOUCH_INTERVAL_S:
        os.utime(directory / _READY, follow_symlinks=False)
    return True


def _take_over(fd: int, uid: int, depth: int = 0) -> None:
    """Give a tree written by a step's user to the worker: readable by all, writable by no other
    user. Each directory is the worker's before it is read: nobody changes what is in it then."""
    found = os.fstat(fd)
    if found.st_uid != uid:
        raise OSError(errno.EPERM, "an installer left a directory of another user")
    if depth > _DEEPEST:
        raise OSError(errno.ELOOP, "an installer left directories that are nested too deeply")
    os.fchown(fd, os.geteuid(), os.getegid())
    os.fchmod(fd, 0o755)
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                with anchored.folder(entry.name, fd) as inner:
                    if os.fstat(inner).st_dev != found.st_dev:
                        raise OSError(errno.EXDEV, "an installer left a mounted file system")
                    _take_over(inner, uid, depth + 1)
            elif entry.is_file(follow_symlinks=False):
                _take_over_file(entry.name, fd, uid)
            elif not entry.is_symlink():
                os.unlink(entry.name, dir_fd=fd)


def _take_over_file(name: str, within: int, uid: int) -> None:
    with open(os.open(name, anchored.FILE, dir_fd=within), "rb") as file:
        found = os.fstat(file.fileno())
        is_users = found.st_uid == uid
        if not stat.S_ISREG(found.st_mode) or not (is_users or found.st_mode & 0o004):
            raise OSError(errno.EPERM, "an installer left a file that its user may not read")
        mode = 0o755 if found.st_mode & 0o100 else 0o644
        if is_users and found.st_nlink == 1:
            os.fchown(file.fileno(), os.geteuid(), os.getegid())
            os.fchmod(file.fileno(), mode)
            return
        # an installer's cache has it, too
        os.unlink(name, dir_fd=within)
        with open(os.open(name, anchored.FRESH, 0o600, dir_fd=within), "wb") as copy:
            shutil.copyfileobj(file, copy)
            os.fchmod(copy.fileno(), mode)


def _remove(directory: Path) -> None:
    with suppress(FileNotFoundError):
        anchored.remove(str(directory), None, str(directory.parent))
