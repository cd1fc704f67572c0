"""A working tree: a step's private, writable copy of a revision, restored afterwards.

Comparing a tree with its original costs one lstat per file; copying it again would cost far more. A
file is unchanged if size, mode, inode and both times are the same and its change time is before the
step's start: only the kernel sets that time, so not even `touch` hides a change.
"""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import PlatformError
from workers.archive import Manifest, copy_file, digest_of
from workers.disk import remove

Stamp = tuple[int, int, int, int, int]
FOLDER_MODE = 0o755  # the mode of the worker's own directories above keeps other users out
TICK_NS = 20_000_000  # change times advance in steps of up to 10 ms
# the clock that change times come from
CLOCK = getattr(time, "CLOCK_REALTIME_COARSE", time.CLOCK_REALTIME)


@dataclass(slots=True)
class _Folder:
    path: str
    name: str  # relative to the root; empty for the root itself
    files: dict[str, Stamp] = field(default_factory=dict)
    folders: dict[str, _Folder] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)


class Damaged(PlatformError):
    """The pristine copy on this host does not match its manifest."""


class Tree:
    """One working tree. Used by one step at a time; `heal` before the next one."""

    def __init__(
        self, path: Path, pristine: Path, manifest: Manifest, owner: tuple[int, int] | None = None
    ) -> None:
        """Copy the revision to `path`. Raises Damaged when the pristine copy does not match its
        manifest."""
        self.path = path
        self._pristine = pristine
        self._manifest = manifest
        self._owner = owner
        self._taken_ns = 0
        self._make_folder(str(path))
        self._root = _Folder(str(path), "")
        by_name = {"": self._root}
        for name in manifest.folders:
            parent, _, last = name.rpartition("/")
            by_name[name] = by_name[parent].folders[last] = _Folder(str(path / name), name)
            self._make_folder(str(path / name))
        for name in manifest.files:
            parent, _, last = name.rpartition("/")
            self._copy(by_name[parent], last)
        for name, target in manifest.links.items():
            parent, _, last = name.rpartition("/")
            by_name[parent].links[last] = target
            self._link(by_name[parent], last)

    def take(self) -> None:
        """A step starts: it made all changes from now on."""
        self._taken_ns = time.clock_gettime_ns(CLOCK)

    def heal(self) -> int:
        """Undo the step's changes; returns the number of restored entries. Raises OSError."""
        return self._heal(self._root)

    def _heal(self, folder: _Folder) -> int:
        mended = 0
        found = 0
        try:
            entries = os.scandir(folder.path)
        except PermissionError:
            os.chmod(folder.path, 0o700)
            entries = os.scandir(folder.path)
        with entries:
            for entry in entries:
                stamp = folder.files.get(entry.name)
                if stamp is not None:
                    found += 1
                    if not self._is_untouched(entry, stamp, folder):
                        self._mend(folder, entry.name)
                        mended += 1
                elif entry.name in folder.folders and entry.is_dir(follow_symlinks=False):
                    found += 1
                    mended += self._check_mode(entry.path, entry.stat(follow_symlinks=False))
                    mended += self._heal(folder.folders[entry.name])
                elif entry.name in folder.links and self._is_link(entry, folder):
                    found += 1
                else:
                    _discard(entry.path)
                    mended += 1
        if found < len(folder.files) + len(folder.folders) + len(folder.links):
            known = {*folder.files, *folder.folders, *folder.links}
            missing = known - set(os.listdir(folder.path))
            for name in sorted(missing):
                mended += self._restore(folder, name)
        if folder is self._root:
            mended += self._check_mode(folder.path, os.lstat(folder.path))
        return mended

    def _is_link(self, entry: os.DirEntry[str], folder: _Folder) -> bool:
        return entry.is_symlink() and os.readlink(entry.path) == folder.links[entry.name]

    def _is_untouched(self, entry: os.DirEntry[str], stamp: Stamp, folder: _Folder) -> bool:
        if stamp_of(entry.stat(follow_symlinks=False)) != stamp:
            return False
        if stamp[3] < self._taken_ns - TICK_NS:
            return True
        # Written so shortly before the step began that a change in the same tick would bear the
        # same time.
        name = f"{folder.name}/{entry.name}" if folder.name else entry.name
        return digest_of(Path(entry.path)) == self._manifest.files[name].digest

    def _check_mode(self, path: str, found: os.stat_result) -> int:
        if stat.S_IMODE(found.st_mode) == FOLDER_MODE and (
            self._owner is None or found.st_uid == self._owner[0]
        ):
            return 0
        self._own(path)
        os.chmod(path, FOLDER_MODE)
        return 1

    def _mend(self, folder: _Folder, name: str) -> None:
        _discard(f"{folder.path}/{name}")
        self._copy(folder, name)

    def _restore(self, folder: _Folder, name: str) -> int:
        inner = folder.folders.get(name)
        if inner is None:
            (self._link if name in folder.links else self._copy)(folder, name)
            return 1
        self._make_folder(inner.path)
        return 1 + self._heal(inner)

    def _make_folder(self, path: str) -> None:
        os.mkdir(path, 0o700)
        self._own(path)
        os.chmod(path, FOLDER_MODE)

    def _copy(self, folder: _Folder, last: str) -> None:
        name = f"{folder.name}/{last}" if folder.name else last
        entry = self._manifest.files[name]
        target = Path(folder.path) / last
        try:
            digest = copy_file(self._pristine / name, target, entry.mode)
        except FileNotFoundError:
            raise Damaged(f"this host's copy of a workspace lacks {name!r}") from None
        if digest != entry.digest:
            raise Damaged(f"in this host's copy of a workspace, {name!r} has changed")
        self._own(str(target))
        folder.files[last] = stamp_of(os.lstat(target))

    def _link(self, folder: _Folder, last: str) -> None:
        path = f"{folder.path}/{last}"
        os.symlink(folder.links[last], path)
        self._own(path)

    def _own(self, path: str) -> None:
        if self._owner is not None:
            os.chown(path, *self._owner, follow_symlinks=False)


def stamp_of(found: os.stat_result) -> Stamp:
    """What changes when a file does: mode, size, times, inode. The change time is the fourth."""
    return (found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _discard(path: str) -> None:
    """Remove a file, a link or a tree. Raises OSError."""
    if stat.S_ISDIR(os.lstat(path).st_mode):
        if not remove(Path(path)):
            raise OSError(f"cannot remove {path}")
    else:
        os.unlink(path)


def write_pristine(manifest: Manifest, root: Path) -> None:
    """Make an unpacked tree read-only, to prevent accidental changes."""
    for name, entry in manifest.files.items():
        os.chmod(root / name, entry.mode & 0o555)
    for name in (*manifest.folders, ""):
        os.chmod(root / name, FOLDER_MODE & 0o555)
