"""A step's directories, reused by the next one: a working tree and a scratch directory.

A working tree is a private, writable copy of a revision, restored afterwards. Comparing a tree with
its original costs one lstat per file; copying it again would cost far more. A file is unchanged if
size, mode, inode and both times are the same and its change time is before the step's start: only
the kernel sets that time, so not even `touch` hides a change.

A scratch directory is empty but for the input when an attempt starts. On a journaling file system,
creating and removing a directory takes longer than a small step's process. So it is emptied
instead, and the input file stays if the next attempt would write the same bytes. The same holds for
the directory beside it, for artifacts.

<cache>/runs/<process>/w/<name>/    working trees: taken, restored, reused
<cache>/runs/<process>/s/<attempt>/ scratch directories
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import secrets
import stat
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import PlatformError
from runners import anchored
from workers.archive import Manifest, copy_file, digest_of
from workers.disk import WorkerDirectory, remove
from workers.revisions import FOLDER_MODE, Revision, Revisions

log = logging.getLogger("stroem.worker")
INPUT = "input.json"
Stamp = tuple[int, int, int, int, int]
SHORT_LOOK = 64  # entries of a tree
TICK_NS = 20_000_000  # change times advance in steps of up to 10 ms
# the clock that change times come from
CLOCK = getattr(time, "CLOCK_REALTIME_COARSE", time.CLOCK_REALTIME)


@dataclass(slots=True)
class _Folder:
    name: str  # relative to the root; empty for the root itself
    files: dict[str, Stamp | None] = field(default_factory=dict)
    folders: dict[str, _Folder] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    stamp: Stamp | None = None  # when it held these names and no others

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

    def is_untouched(self) -> bool:
        """Whether a short look shows that a step changed nothing; never of a large tree."""
        if len(self._manifest.files) + len(self._manifest.folders) > SHORT_LOOK:
            return False
        try:
            with anchored.folder(self.path) as fd:
                return self._is_whole(self._root, fd)
        except OSError:
            return False

    def _is_whole(self, folder: _Folder, fd: int) -> bool:
        if not self._is_as_it_was(folder, fd):
            return False
        for name, within in folder.folders.items():
            with anchored.folder(name, fd) as inner:
                if not self._is_whole(within, inner):
                    return False
        return True

    def heal(self) -> int:
        """Undo the step's changes; returns their number. Raises OSError."""
        with anchored.folder(self.path) as fd:
            return self._check(fd, self._mode) + self._heal(self._root, fd)

    def _heal(self, folder: _Folder, fd: int) -> int:
        if self._is_as_it_was(folder, fd):
            return sum(self._enter(folder, name, fd) for name in folder.folders)
        mended = 0
        kept = set()
        with os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name
                if name in folder.folders and entry.is_dir(follow_symlinks=False):
                    mended += self._enter(folder, name, fd)
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
        folder.stamp = stamp_of(os.fstat(fd))
        return mended

    def _enter(self, folder: _Folder, name: str, fd: int) -> int:
        with anchored.folder(name, fd) as inner:
            return self._check(inner) + self._heal(folder.folders[name], inner)

    def _is_as_it_was(self, folder: _Folder, fd: int) -> bool:
        """Whether no name came, went or changed hands, and no file changed. A directory whose time
        is the same need not be listed."""
        return is_unchanged(folder.stamp, os.fstat(fd), self._taken_ns) and all(
            is_unchanged(stamp, os.stat(name, dir_fd=fd, follow_symlinks=False), self._taken_ns)
            for name, stamp in folder.files.items()
        )

    def _is_untouched(self, folder: _Folder, entry: os.DirEntry[str], fd: int) -> bool:
        name = entry.name
        if name in folder.links:
            return entry.is_symlink() and os.readlink(name, dir_fd=fd) == folder.links[name]
        stamp = folder.files.get(name)
        if stamp is None or stamp_of(entry.stat(follow_symlinks=False)) != stamp:
            return False
        if is_older(stamp, self._taken_ns):
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


def is_older(stamp: Stamp, taken_ns: int) -> bool:
    """Whether any change since `taken_ns` bears a later time than the stamp."""
    return stamp[3] < taken_ns - TICK_NS


def is_unchanged(stamp: Stamp | None, found: os.stat_result, taken_ns: int) -> bool:
    """Whether nothing has happened since the stamp to what a step took at `taken_ns`; False when
    the times cannot tell."""
    return stamp is not None and is_older(stamp, taken_ns) and stamp_of(found) == stamp


@dataclass(slots=True)
class _Kept:
    """A revision, with its trees that no step uses now."""

    revision: Revision
    users: int = 0
    idle: defaultdict[anchored.Owner | None, list[Tree]] = field(
        default_factory=lambda: defaultdict(list)
    )


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
        self._revisions = Revisions(directory, archive)
        self._max_retained = max_retained
        self._mode = mode
        self._lock = threading.Lock()
        self._mending = threading.Lock()
        self._fetching: dict[str, threading.Lock] = {}
        self._known: OrderedDict[str, _Kept] = OrderedDict()  # least recently used first
        self.planted = self.healed = self.discarded = 0

    def take(self, revision_id: int, digest: str, owner: anchored.Owner | None = None) -> Tree:
        """An unused tree of this revision. Return it with `give_back`. `owner`: the user and group
        that the step runs as, if not the worker's."""
        kept = self._hold(revision_id, digest)
        try:
            with self._lock:
                idle = kept.idle[owner]
                tree = idle.pop() if idle else None
            tree = tree or self._plant(kept.revision, revision_id, owner)
        except BaseException:
            self._let_go(kept)
            raise
        tree.take()
        return tree

    def give_back(self, digest: str, tree: Tree, *, is_clean: bool = False) -> None:
        """After the step: restore the tree for the next one, unless it is untouched; remove it if
        that fails."""
        kept = self._known[digest]
        try:
            if not is_clean and tree.heal():
                self.healed += 1
        except (OSError, RecursionError, PlatformError) as error:
            log.warning("removed a step's working tree, as restoring it failed: %s", error)
            self.discarded += 1
            remove(tree.path)
        else:
            with self._lock:
                kept.idle[tree.owner].append(tree)
        self._let_go(kept)

    def _hold(self, revision_id: int, digest: str) -> _Kept:
        with self._lock:
            kept = self._known.get(digest)
            if kept is not None:
                kept.users += 1
                self._known.move_to_end(digest)
                return kept
            fetching = self._fetching.setdefault(digest, threading.Lock())
        with fetching:
            with self._lock:
                kept = self._known.get(digest)
            if kept is None:
                kept = _Kept(self._revisions.open(revision_id, digest))
            with self._lock:
                self._known[digest] = kept
                self._known.move_to_end(digest)
                kept.users += 1
                self._fetching.pop(digest, None)
                return kept

    def _let_go(self, kept: _Kept) -> None:
        with self._lock:
            kept.users -= 1
            free = [known for known in self._known.values() if known.users == 0]
            surplus = free[: max(0, len(free) - self._max_retained)]
            for known in surplus:
                del self._known[known.revision.digest]
        for known in surplus:
            for tree in itertools.chain(*known.idle.values()):
                remove(tree.path)
            self._revisions.forget(known.revision)

    def _plant(self, revision: Revision, revision_id: int, owner: anchored.Owner | None) -> Tree:
        try:
            return self._copy(revision, owner)
        except Damaged:
            with self._mending:
                try:
                    # another thread may have fetched it again meanwhile
                    return self._copy(revision, owner)
                except Damaged as damage:
                    log.warning("%s; fetching it again", damage)
                    self._revisions.fetch(revision_id, revision.folder)
                return self._copy(revision, owner)

    def _copy(self, revision: Revision, owner: anchored.Owner | None) -> Tree:
        path = self._directory.trees / secrets.token_hex(6)
        try:
            mode = FOLDER_MODE if owner is None else self._mode
            tree = Tree(path, revision.tree, revision.manifest, owner, mode)
        except BaseException:
            remove(path)
            raise
        self.planted += 1
        return tree


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
    stamp: Stamp | None = None  # of the input file
    folder_stamp: Stamp | None = None  # when the directory held that file and nothing else
    left_stamp: Stamp | None = None  # when `left` was bare
    taken_ns: int = 0
    is_secret: bool = False

    @property
    def may_hold_artifacts(self) -> bool:
        """Also true of a directory that cannot be read: who stores its files says why."""
        try:
            return not self.is_bare()
        except OSError:
            return True

    def is_bare(self) -> bool:
        """Whether the directory for artifacts is as it was made, and empty."""
        if is_unchanged(self.left_stamp, os.lstat(self.left), self.taken_ns):
            return True
        with anchored.folder(self.left) as fd, os.scandir(fd) as entries:
            found = os.fstat(fd)
            owner = os.geteuid() if self.owner is None else self.owner[0]
            is_own = found.st_uid == owner and stat.S_IMODE(found.st_mode) == 0o700
            is_bare = is_own and next(entries, None) is None
        self.left_stamp = stamp_of(found) if is_bare else None
        return is_bare

    def is_untouched(self) -> bool:
        """Whether the times of the directories tell that the attempt changed nothing in them."""
        try:
            return (
                self.holds_only_input()
                and is_unchanged(self.left_stamp, os.lstat(self.left), self.taken_ns)
                and not self.taken.exists()
            )
        except OSError:
            return False

    def holds_only_input(self) -> bool:
        """The same of the directory with the input."""
        if self.is_secret or not is_unchanged(
            self.folder_stamp, os.lstat(self.path), self.taken_ns
        ):
            return False
        return is_unchanged(self.stamp, os.lstat(self.input_path), self.taken_ns)


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

    def close(self, scratch: Scratch, *, is_clean: bool = False) -> None:
        """Empty the directory for reuse, unless it is untouched; if that fails, remove it."""
        try:
            if not is_clean:
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
        if scratch.holds_only_input():
            return
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
            scratch.folder_stamp = stamp_of(os.fstat(fd)) if is_kept else None
        if not is_kept:
            scratch.stamp, scratch.data = None, b""

    def _may_stay(self, scratch: Scratch, entry: os.DirEntry[str], within: int) -> bool:
        if scratch.is_secret or scratch.stamp is None:
            return False
        if stamp_of(entry.stat(follow_symlinks=False)) != scratch.stamp:
            return False
        if is_older(scratch.stamp, scratch.taken_ns):
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
        if not scratch.is_bare():
            anchored.remove(str(scratch.left), None, str(scratch.path.parent))
            _make_own(scratch.left, scratch.owner)

    def _write(self, scratch: Scratch, data: bytes) -> None:
        scratch.stamp = None
        with anchored.folder(scratch.path) as fd:
            scratch.stamp = stamp_of(anchored.write(INPUT, data, fd, scratch.owner))
            scratch.folder_stamp = stamp_of(os.fstat(fd))
        scratch.data = data


def _make_own(path: Path, owner: anchored.Owner | None) -> None:
    os.mkdir(path, 0o700)
    if owner is not None:
        os.chown(path, *owner)
