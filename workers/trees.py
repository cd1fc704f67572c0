"""A step's directories, reused by the next one: a working tree and a scratch directory.

A working tree is a private, writable copy of a revision, restored afterwards. Comparing a tree with
its original costs one lstat per file; copying it again would cost far more. A file is unchanged if
size, mode, inode and both times are the same and its change time is before the step's start: only
the kernel sets that time, so not even `touch` hides a change.

A scratch directory is empty but for the input when an attempt starts. On a journaling file system,
creating and removing a directory takes longer than a small step's process. So it is emptied
instead, and the input file stays if the next attempt would write the same bytes. The same holds for
the directory beside it, for artifacts.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import stat
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import PlatformError
from runners import anchored
from workers.archive import Manifest, copy_file, digest_of
from workers.disk import WorkerDirectory, remove

log = logging.getLogger("stroem.worker")
INPUT = "input.json"
Stamp = tuple[int, int, int, int, int]
FOLDER_MODE = 0o755  # the mode of the worker's own directories above keeps other users out
TICK_NS = 20_000_000  # change times advance in steps of up to 10 ms
# the clock that change times come from
CLOCK = getattr(time, "CLOCK_REALTIME_COARSE", time.CLOCK_REALTIME)


@dataclass(slots=True)
class _Folder:
    name: str  # relative to the root; empty for the root itself
    files: dict[str, Stamp | None] = field(default_factory=dict)
    folders: dict[str, _Folder] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def path_of(self, name: str) -> str:
        return f"{self.name}/{name}" if self.name else name


class Damaged(PlatformError):
    """The pristine copy on this host does not match its manifest."""


class Tree:
    """One working tree. Used by one step at a time; `heal` before the next one.

    What is in it belongs to the step's user: it is touched by descriptor only.
    """

    def __init__(
        self,
        path: Path,
        pristine: Path,
        manifest: Manifest,
        owner: anchored.Owner | None = None,
        mode: int = FOLDER_MODE,
    ) -> None:
        """Copy the revision to `path`, a directory of this mode. Raises Damaged when the pristine
        copy does not match its manifest."""
        self.path = path
        self._pristine = pristine
        self._manifest = manifest
        self.owner = owner
        self._mode = mode
        self._taken_ns = 0
        self._root = _outline(manifest)
        os.mkdir(path, 0o700)
        with anchored.folder(path) as fd:
            self._device = os.fstat(fd).st_dev
            self._heal(self._root, fd)
            self._hand_over(fd, mode)

    def take(self) -> None:
        """A step starts: it made all changes from now on."""
        self._taken_ns = time.clock_gettime_ns(CLOCK)

    def heal(self) -> int:
        """Undo the step's changes; returns their number. Raises OSError."""
        with anchored.folder(self.path) as fd:
            return self._check(fd, self._mode) + self._heal(self._root, fd)

    def _heal(self, folder: _Folder, fd: int) -> int:
        mended = 0
        kept = set()
        with os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name
                if name in folder.folders and entry.is_dir(follow_symlinks=False):
                    with anchored.folder(name, fd) as inner:
                        mended += self._check(inner) + self._heal(folder.folders[name], inner)
                elif not self._is_untouched(folder, entry, fd):
                    anchored.remove(name, fd, str(self.path.parent))
                    mended += 1
                    continue
                kept.add(name)
        if len(kept) < len(folder.files) + len(folder.folders) + len(folder.links):
            known = {*folder.files, *folder.folders, *folder.links}
            for name in sorted(known - kept):
                self._restore(folder, name, fd)
                mended += 1
        return mended

    def _is_untouched(self, folder: _Folder, entry: os.DirEntry[str], fd: int) -> bool:
        name = entry.name
        if name in folder.links:
            return entry.is_symlink() and os.readlink(name, dir_fd=fd) == folder.links[name]
        stamp = folder.files.get(name)
        if stamp is None or stamp_of(entry.stat(follow_symlinks=False)) != stamp:
            return False
        if stamp[3] < self._taken_ns - TICK_NS:
            return True
        # Written so shortly before the step began that a change in the same tick would bear the
        # same time.
        return digest_of(name, fd) == self._manifest.files[folder.path_of(name)].digest

    def _check(self, fd: int, mode: int = FOLDER_MODE) -> int:
        """Mend a directory's mode. Raises OSError if it is not one that the tree was made with."""
        found = os.fstat(fd)
        is_foreign = self.owner is not None and found.st_uid != self.owner[0]
        if is_foreign or found.st_dev != self._device:
            raise OSError(errno.ESTALE, "a step put a foreign directory into its working tree")
        if stat.S_IMODE(found.st_mode) == mode:
            return 0
        os.fchmod(fd, mode)
        return 1

    def _restore(self, folder: _Folder, name: str, fd: int) -> None:
        if name in folder.links:
            # It stays the worker's: only names could give it away.
            os.symlink(folder.links[name], name, dir_fd=fd)
        elif name in folder.files:
            self._copy(folder, name, fd)
        else:
            inner = anchored.make_folder(name, fd)
            try:
                self._heal(folder.folders[name], inner)
                self._hand_over(inner)
            finally:
                os.close(inner)

    def _copy(self, folder: _Folder, last: str, fd: int) -> None:
        name = folder.path_of(last)
        entry = self._manifest.files[name]
        try:
            digest, found = copy_file(self._pristine / name, last, entry.mode, fd, self.owner)
        except FileNotFoundError:
            raise Damaged(f"this host's copy of a workspace lacks {name!r}") from None
        if digest != entry.digest:
            raise Damaged(f"in this host's copy of a workspace, {name!r} has changed")
        folder.files[last] = stamp_of(found)

    def _hand_over(self, fd: int, mode: int = FOLDER_MODE) -> None:
        """A new directory becomes the step's, with what is in it."""
        if self.owner is not None:
            os.fchown(fd, *self.owner)
        os.fchmod(fd, mode)


def _outline(manifest: Manifest) -> _Folder:
    """The directories of a tree, before anything is in them."""
    by_name = {"": _Folder("")}
    for name in manifest.folders:
        parent, _, last = name.rpartition("/")
        by_name[name] = by_name[parent].folders[last] = _Folder(name)
    for name in manifest.files:
        parent, _, last = name.rpartition("/")
        by_name[parent].files[last] = None
    for name, target in manifest.links.items():
        parent, _, last = name.rpartition("/")
        by_name[parent].links[last] = target
    return by_name[""]


def stamp_of(found: os.stat_result) -> Stamp:
    """What changes when a file does: mode, size, times, inode. The change time is the fourth."""
    return (found.st_mode, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def write_pristine(manifest: Manifest, root: Path) -> None:
    """Make an unpacked tree read-only, to prevent accidental changes."""
    for name, entry in manifest.files.items():
        os.chmod(root / name, entry.mode & 0o555)
    for name in (*manifest.folders, ""):
        os.chmod(root / name, FOLDER_MODE & 0o555)


@dataclass(slots=True, eq=False)
class Scratch:
    """One directory. `input_path` is the attempt's input as JSON, mode 0600. Beside it, `left` is
    for the artifacts of the step, and `taken` for those of others, if it takes some."""

    path: Path
    input_path: Path
    left: Path
    taken: Path
    owner: anchored.Owner | None = None
    data: bytes = b""
    stamp: Stamp | None = None
    taken_ns: int = 0
    is_secret: bool = False


class Scratches:
    """The scratch directories of one worker process. Thread-safe."""

    def __init__(self, directory: WorkerDirectory) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._idle: defaultdict[anchored.Owner | None, list[Scratch]] = defaultdict(list)

    def open(
        self, data: bytes, owner: anchored.Owner | None = None, *, is_secret: bool = False
    ) -> Scratch:
        """A directory of mode 0700 with `data` as its input file and nothing else; `owner`: the
        user and group that the step runs as, if not the worker's. Secret data does not outlive its
        attempt."""
        with self._lock:
            idle = self._idle[owner]
            scratch = idle.pop() if idle else None
        if scratch is None:
            path = self._directory.scratch / secrets.token_hex(6)
            left, taken = path.with_suffix(".left"), path.with_suffix(".taken")
            _make_own(path, owner)
            _make_own(left, owner)
            scratch = Scratch(path, path / INPUT, left, taken, owner)
        if scratch.data != data or scratch.stamp is None:
            self._write(scratch, data)
        scratch.is_secret = is_secret
        scratch.taken_ns = time.clock_gettime_ns(CLOCK)
        return scratch

    def close(self, scratch: Scratch) -> None:
        """Empty the directory for reuse; if that fails, remove it."""
        try:
            self._empty(scratch)
            self._clear(scratch)
        except OSError as error:
            log.warning("emptying a scratch directory failed: %s", error)
            for path in (scratch.path, scratch.left, scratch.taken):
                remove(path)
            return
        with self._lock:
            self._idle[scratch.owner].append(scratch)

    def _empty(self, scratch: Scratch) -> None:
        is_kept = False
        with anchored.folder(scratch.path) as fd:
            if stat.S_IMODE(os.fstat(fd).st_mode) != 0o700:
                os.fchmod(fd, 0o700)
            with os.scandir(fd) as entries:
                for entry in entries:
                    if entry.name == INPUT and self._may_stay(scratch, entry, fd):
                        is_kept = True
                    else:
                        anchored.remove(entry.name, fd, str(scratch.path.parent))
        if not is_kept:
            scratch.stamp, scratch.data = None, b""

    def _may_stay(self, scratch: Scratch, entry: os.DirEntry[str], within: int) -> bool:
        if scratch.is_secret or scratch.stamp is None:
            return False
        if stamp_of(entry.stat(follow_symlinks=False)) != scratch.stamp:
            return False
        if scratch.stamp[3] < scratch.taken_ns - TICK_NS:
            return True
        fd = os.open(entry.name, anchored.FILE, dir_fd=within)
        try:
            return os.read(fd, len(scratch.data) + 1) == scratch.data
        finally:
            os.close(fd)

    def _clear(self, scratch: Scratch) -> None:
        """Remove the artifacts: their bytes are stored by now, or are not wanted."""
        if scratch.taken.exists():
            anchored.remove(str(scratch.taken), None, str(scratch.path.parent))
        if not _is_bare(scratch):
            anchored.remove(str(scratch.left), None, str(scratch.path.parent))
            _make_own(scratch.left, scratch.owner)

    def _write(self, scratch: Scratch, data: bytes) -> None:
        scratch.stamp = None
        with anchored.folder(scratch.path) as fd:
            scratch.stamp = stamp_of(anchored.write(INPUT, data, fd, scratch.owner))
        scratch.data = data


def _make_own(path: Path, owner: anchored.Owner | None) -> None:
    os.mkdir(path, 0o700)
    if owner is not None:
        os.chown(path, *owner)


def _is_bare(scratch: Scratch) -> bool:
    """Whether the next step may have the directory for artifacts: as it was made, and empty."""
    with anchored.folder(scratch.left) as fd, os.scandir(fd) as entries:
        found = os.fstat(fd)
        owner = os.geteuid() if scratch.owner is None else scratch.owner[0]
        is_own = found.st_uid == owner and stat.S_IMODE(found.st_mode) == 0o700
        return is_own and next(entries, None) is None
