"""Workspaces on this host: each revision is fetched once, each step gets its own working tree.

<cache>/revisions/<digest>/         unpacked revisions, read-only, shared by this host's workers
<cache>/runs/<process>/w/<name>/    working trees: taken, restored, reused
<cache>/runs/<process>/s/<attempt>/ scratch directories
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import secrets
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import PlatformError
from runners.anchored import Owner
from workers.archive import Manifest, unpack
from workers.disk import WorkerDirectory, lock_file, remove
from workers.trees import FOLDER_MODE, Damaged, Tree, write_pristine

log = logging.getLogger("stroem.worker")
MANIFEST = "manifest.json"
_DIGEST = re.compile(r"[0-9a-f]{16,128}")


@dataclass(slots=True)
class _Revision:
    """A revision in use. `lock` keeps other processes from removing it."""

    digest: str
    folder: Path
    manifest: Manifest
    lock: int
    users: int = 0
    idle: defaultdict[Owner | None, list[Tree]] = field(default_factory=lambda: defaultdict(list))


class Workspaces:
    """Hands out working trees. Thread-safe."""

    def __init__(
        self,
        directory: WorkerDirectory,
        archive: Callable[[int], bytes],
        *,
        max_retained: int = 2,
        mode: int = FOLDER_MODE,
    ) -> None:
        """`archive` returns a revision's tar.gz; `mode`: of trees with an owner."""
        self._directory = directory
        self._archive = archive
        self._max_retained = max_retained
        self._mode = mode
        self._shelf = directory.folder(directory.cache / "revisions")
        self._lock = threading.Lock()
        self._mending = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}
        self._known: OrderedDict[str, _Revision] = OrderedDict()  # least recently used first
        self.fetched = self.planted = self.healed = self.discarded = 0

    def take(self, revision_id: int, digest: str, owner: Owner | None = None) -> Tree:
        """An unused tree of this revision. Return it with `give_back`. `owner`: the user and group
        that the step runs as, if not the worker's."""
        revision = self._hold(revision_id, digest)
        try:
            with self._lock:
                idle = revision.idle[owner]
                tree = idle.pop() if idle else None
            tree = tree or self._plant(revision, revision_id, owner)
        except BaseException:
            self._let_go(revision)
            raise
        tree.take()
        return tree

    def give_back(self, digest: str, tree: Tree) -> None:
        """After the step: restore the tree for the next one, or remove it if that fails."""
        revision = self._known[digest]
        try:
            if tree.heal():
                self.healed += 1
        except (OSError, RecursionError, PlatformError) as error:
            log.warning("removed a step's working tree, as restoring it failed: %s", error)
            self.discarded += 1
            remove(tree.path)
        else:
            with self._lock:
                revision.idle[tree.owner].append(tree)
        self._let_go(revision)

    def _hold(self, revision_id: int, digest: str) -> _Revision:
        with self._lock:
            revision = self._known.get(digest)
            if revision is not None:
                revision.users += 1
                self._known.move_to_end(digest)
                return revision
            fetching = self._fetching.setdefault(digest, threading.Lock())
        with fetching:
            with self._lock:
                revision = self._known.get(digest)
            if revision is None:
                revision = self._open(revision_id, digest)
            with self._lock:
                self._known[digest] = revision
                self._known.move_to_end(digest)
                revision.users += 1
                self._fetching.pop(digest, None)
                return revision

    def _let_go(self, revision: _Revision) -> None:
        with self._lock:
            revision.users -= 1
            free = [known for known in self._known.values() if known.users == 0]
            surplus = free[: max(0, len(free) - self._max_retained)]
            for known in surplus:
                del self._known[known.digest]
        for known in surplus:
            self._forget(known)

    def _forget(self, revision: _Revision) -> None:
        for tree in itertools.chain(*revision.idle.values()):
            remove(tree.path)
        os.close(revision.lock)
        path = self._lock_path(revision.digest)
        alone = lock_file(path, is_blocking=False)
        if alone is not None:  # no other worker on this host uses it
            remove(revision.folder)
            path.unlink(missing_ok=True)
            os.close(alone)

    def _lock_path(self, digest: str) -> Path:
        return self._shelf / f"{digest}.lock"

    def _open(self, revision_id: int, digest: str) -> _Revision:
        """Fetch the revision if it is missing, and take a shared lock on it."""
        if not _DIGEST.fullmatch(digest):
            raise PlatformError(f"revision {revision_id} has no usable digest")
        folder = self._shelf / digest
        while True:
            shared = lock_file(self._lock_path(digest), is_shared=True)
            assert shared is not None
            manifest = _read_manifest(folder)
            if manifest is not None:
                return _Revision(digest, folder, manifest, shared)
            os.close(shared)
            alone = lock_file(self._lock_path(digest))
            assert alone is not None
            try:
                if _read_manifest(folder) is None:
                    self._fetch(revision_id, folder)
            finally:
                os.close(alone)

    def _fetch(self, revision_id: int, folder: Path) -> None:
        fresh = self._shelf / f".{folder.name[:16]}-{secrets.token_hex(4)}"
        os.mkdir(fresh, 0o700)
        try:
            os.mkdir(fresh / "tree", 0o700)
            manifest = unpack(self._archive(revision_id), fresh / "tree")
            write_pristine(manifest, fresh / "tree")
            (fresh / MANIFEST).write_text(manifest.dumps(), encoding="utf-8")
            if folder.exists() and not remove(folder):
                raise PlatformError(f"{folder} is a damaged workspace and cannot be removed")
            os.rename(fresh, folder)
        except BaseException:
            remove(fresh)
            raise
        self.fetched += 1

    def _plant(self, revision: _Revision, revision_id: int, owner: Owner | None) -> Tree:
        try:
            return self._copy(revision, owner)
        except Damaged:
            with self._mending:
                try:
                    # another thread may have fetched it again meanwhile
                    return self._copy(revision, owner)
                except Damaged as damage:
                    log.warning("%s; fetching it again", damage)
                    self._fetch(revision_id, revision.folder)
                return self._copy(revision, owner)

    def _copy(self, revision: _Revision, owner: Owner | None) -> Tree:
        path = self._directory.trees / secrets.token_hex(6)
        try:
            mode = FOLDER_MODE if owner is None else self._mode
            tree = Tree(path, revision.folder / "tree", revision.manifest, owner, mode)
        except BaseException:
            remove(path)
            raise
        self.planted += 1
        return tree


def _read_manifest(folder: Path) -> Manifest | None:
    try:
        return Manifest.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
