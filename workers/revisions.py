"""Revisions on this host: each is fetched once, unpacked read-only, and shared by its workers.

<cache>/revisions/<digest>/  as long as a worker uses it; the lock beside it says so
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.errors import PlatformError
from workers.archive import Manifest, unpack
from workers.disk import WorkerDirectory, lock_file, remove

MANIFEST = "manifest.json"
FOLDER_MODE = 0o755  # the mode of the worker's own directories above keeps other users out
_DIGEST = re.compile(r"[0-9a-f]{16,128}")


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision in use. `lock` keeps other processes from removing it."""

    digest: str
    folder: Path
    manifest: Manifest
    lock: int

    @property
    def tree(self) -> Path:
        return self.folder / "tree"


class Revisions:
    """The revisions that this process uses."""

    def __init__(self, directory: WorkerDirectory, archive: Callable[[int], bytes]) -> None:
        """`archive` returns a revision's tar.gz."""
        self._archive = archive
        self._shelf = directory.folder(directory.cache / "revisions")

    def open(self, revision_id: int, digest: str) -> Revision:
        """Fetch the revision if it is missing, and take a shared lock on it."""
        if not _DIGEST.fullmatch(digest):
            raise PlatformError(f"revision {revision_id} has no usable digest")
        folder = self._shelf / digest
        while True:
            shared = lock_file(self._lock_path(digest), is_shared=True)
            assert shared is not None
            manifest = _read_manifest(folder)
            if manifest is not None:
                return Revision(digest, folder, manifest, shared)
            os.close(shared)
            alone = lock_file(self._lock_path(digest))
            assert alone is not None
            try:
                if _read_manifest(folder) is None:
                    self.fetch(revision_id, folder)
            finally:
                os.close(alone)

    def forget(self, revision: Revision) -> None:
        """No step here uses it any more: remove it, unless another worker on this host does."""
        os.close(revision.lock)
        path = self._lock_path(revision.digest)
        alone = lock_file(path, is_blocking=False)
        if alone is not None:
            remove(revision.folder)
            path.unlink(missing_ok=True)
            os.close(alone)

    def fetch(self, revision_id: int, folder: Path) -> None:
        """Unpack it into `folder`, in place of what is there."""
        fresh = self._shelf / f".{folder.name[:16]}-{secrets.token_hex(4)}"
        os.mkdir(fresh, 0o700)
        try:
            os.mkdir(fresh / "tree", 0o700)
            manifest = unpack(self._archive(revision_id), fresh / "tree")
            _write_pristine(manifest, fresh / "tree")
            (fresh / MANIFEST).write_text(manifest.dumps(), encoding="utf-8")
            if folder.exists() and not remove(folder):
                raise PlatformError(f"{folder} is a damaged workspace and cannot be removed")
            os.rename(fresh, folder)
        except BaseException:
            remove(fresh)
            raise

    def _lock_path(self, digest: str) -> Path:
        return self._shelf / f"{digest}.lock"


def _write_pristine(manifest: Manifest, root: Path) -> None:
    """Make an unpacked tree read-only, to prevent accidental changes."""
    for name, entry in manifest.files.items():
        os.chmod(root / name, entry.mode & 0o555)
    for name in (*manifest.folders, ""):
        os.chmod(root / name, FOLDER_MODE & 0o555)


def _read_manifest(folder: Path) -> Manifest | None:
    try:
        return Manifest.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
