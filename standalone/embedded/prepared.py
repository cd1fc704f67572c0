"""Clusters prepared once and then copied: creating one takes half a second, and its tables more; a
copy takes 0.03 s."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import PlatformError
from standalone.embedded import postgres
from standalone.embedded.folders import private_folder, temporary_folders
from standalone.embedded.wheels import postgres_version
from standalone.supervision.lifeline import Lifeline

KEPT = 4  # prepared clusters in the cache; the oldest are removed


def cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return private_folder(private_folder(Path(base).expanduser() / "stroem") / "clusters")
    except (OSError, PlatformError):  # no home directory, or a read-only one
        return private_folder(Path(tempfile.gettempdir()) / f"stroem-{os.geteuid()}-clusters")


def key_of(*parts: str) -> str:
    """A key that changes with the wheel, the code that prepares clusters, and `parts` (what defines
    the tables)."""
    source = Path(postgres.__file__).read_text()
    return hashlib.sha256("\0".join([postgres_version(), source, *parts]).encode()).hexdigest()[:24]


def cluster_for(key: str, lifeline: Lifeline, fill: Callable[[str], None] | None = None) -> Path:
    """The folder of the prepared cluster for `key`. If missing, it is created and `fill` is called
    with its address."""
    cache = cache_folder()
    folder = cache / key
    if not (folder / "data").exists():
        with _lock(cache, fcntl.LOCK_EX):
            if not (folder / "data").exists():
                _prepare(folder, lifeline, fill)
                _prune(cache)
    os.utime(folder)
    return folder


def copy(name: str, folder: Path, cluster: postgres.Cluster) -> None:
    """Copy `name` from a prepared cluster: `password` first, which determines the address, later
    `data`."""
    with _lock(folder.parent, fcntl.LOCK_SH):
        _copy(name, folder, cluster.store)


def _copy(name: str, source: Path, target: Path) -> None:
    reflink = [] if os.uname().sysname == "Darwin" else ["--reflink=auto"]
    done = subprocess.run(
        ["cp", "-a", *reflink, str(source / name), str(target)], capture_output=True, check=False
    )
    if done.returncode:
        raise PlatformError(f"The prepared database was not copied: {done.stderr.decode().strip()}")


def _prepare(folder: Path, lifeline: Lifeline, fill: Callable[[str], None] | None) -> None:
    """Create it where the account that runs the database can reach it, then move it into the cache
    atomically."""
    store, sockets = temporary_folders(lifeline)
    draft = folder.with_name(f"{folder.name}.draft")
    cluster = postgres.Cluster(store, sockets)
    try:
        postgres.prepare(cluster, is_small=True)
        child = lifeline.spawn(
            postgres.program(cluster, store / "database.log", postgres.TO_BE_COPIED)
        )
        try:
            child.wait_until_ready()
            postgres.create_database(cluster)
            if fill is not None:
                fill(cluster.url())
        finally:
            child.stop()
        for leftover in (draft, folder):
            shutil.rmtree(leftover, ignore_errors=True)
        private_folder(draft)
        for name in ("password", "data"):
            _copy(name, store, draft)
        draft.rename(folder)
    finally:
        for leftover in (draft, store, sockets):
            shutil.rmtree(leftover, ignore_errors=True)


def _prune(cache: Path) -> None:
    folders = sorted(
        (entry for entry in cache.iterdir() if entry.is_dir()),
        key=lambda entry: entry.stat().st_mtime,
    )
    for folder in folders[:-KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _lock(cache: Path, how: int) -> Iterator[None]:
    with (cache / "lock").open("a") as handle:
        fcntl.flock(handle, how)
        yield
