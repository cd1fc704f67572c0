"""The files of one state of a workspace, gathered within limits; and those of a folder. Digest and
archive do not depend on the source.

The walk through a folder follows no links: each entry is opened relative to the descriptor of its
parent. Links are kept as links, see `engine.links`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from apps.workspaces.errors import LimitError, SourceError
from engine.links import BadLink, follow
from engine.look_alikes import composed
from engine.plain import plain
from engine.spec.model import Place, Problem

FILE_MODE, PROGRAM_MODE = 0o644, 0o755
LONGEST_PATH = 1000
WORKFLOWS = ".workflows"
NEVER = frozenset({".git", "__pycache__"})  # skipped without a warning
LEFT_OUT = frozenset({".venv", ".hg", ".svn", "node_modules"})
LEFT_OUT_AT_ROOT = frozenset({"var"})
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_PASSES = 40
_MOST_WARNINGS = 100
_WINDOWS = (
    "it has Windows line ends (CR LF): as a `source` it runs with LF, but a script that reads it"
    " with '.' takes CR for a part of each line's last word; save it with LF"
)
_COMPOSED = (
    "another file has this name with its letters composed differently in Unicode: people cannot"
    " tell them apart, and some systems keep only one; rename one"
)

_POINTER = b"version https://git-lfs.github.com/spec/"
_LARGEST_POINTER = 1024
_LFS = (
    "it is a pointer of Git LFS, and steps get the pointer, not the file: run `git lfs pull` before"
    " a folder is imported, keep the file in git itself, or let the step fetch it"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on the size of a workspace and on the time to read it."""

    files: int = 20_000
    bytes: int = 200_000_000
    depth: int = 32
    seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class SourceFile:
    path: str  # relative, with `/`
    content: bytes = field(repr=False)
    is_program: bool = False

    @property
    def mode(self) -> int:
        return PROGRAM_MODE if self.is_program else FILE_MODE


@dataclass(frozen=True, slots=True)
class Tree:
    """`links` are symbolic links (path -> target) that stay inside. `label` is the commit id of a
    git source. `warnings` name skipped files."""

    files: tuple[SourceFile, ...]
    label: str = ""
    warnings: tuple[Problem, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 over paths, modes, contents and links, in order of paths."""
        total = hashlib.sha256()
        for file in self.files:
            head = f"{file.mode:o} {len(file.content)} {file.path}\0"
            total.update(head.encode() + hashlib.sha256(file.content).digest())
        for path, target in self.links.items():
            total.update(f"link {len(target)} {path}\0{target}".encode())
        return total.hexdigest()

    @property
    def names(self) -> Names:
        """The paths of files, also through links."""
        return Names([file.path for file in self.files], self.links)

    def aliases(self) -> dict[str, SourceFile]:
        """Files by the names that links give them: links to files, and what linked folders hold
        where workflow files are looked for."""
        if not self.links:
            return {}
        by_path = {file.path: file for file in self.files}
        names = sorted(by_path)
        folders = {*_directories(by_path, self.links), ""}
        found: dict[str, SourceFile] = {}
        for path in self.links:
            end = follow(path, self.links, folders, by_path)
            if end in by_path:
                found[path] = by_path[end]
            elif path.split("/")[0] == WORKFLOWS:
                inner = f"{end}/" if end else ""
                for name in names[bisect_left(names, inner) :]:
                    if not name.startswith(inner) or len(found) > 2 * len(names):
                        break
                    found[f"{path}/{name.removeprefix(inner)}"] = by_path[name]
        return found

    def archive(self) -> bytes:
        """tar.gz: equal trees give equal bytes. Only directories, regular files and, after them,
        links; modes 0755 and 0644."""
        buffer = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0, compresslevel=6) as squeezed,
            tarfile.open(fileobj=squeezed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in _directories((file.path for file in self.files), self.links):
                archive.addfile(_entry(path, tarfile.DIRTYPE, PROGRAM_MODE, 0))
            for file in self.files:
                entry = _entry(file.path, tarfile.REGTYPE, file.mode, len(file.content))
                archive.addfile(entry, io.BytesIO(file.content))
            for path, target in self.links.items():
                entry = _entry(path, tarfile.SYMTYPE, PROGRAM_MODE, 0)
                entry.linkname = target
                archive.addfile(entry)
        return buffer.getvalue()


class Names:
    """The paths of files. A path through links counts where it ends at a file."""

    def __init__(self, files: Iterable[str], links: Mapping[str, str]) -> None:
        self._files = frozenset(files)
        self._links = links
        self._folders = {*_directories(self._files, links), ""}

    def __contains__(self, path: object) -> bool:
        if path in self._files or not self._links or not isinstance(path, str):
            return path in self._files
        try:
            return follow(path, self._links, self._folders, self._files) in self._files
        except BadLink:
            return False

    def __iter__(self) -> Iterator[str]:
        return iter((*self._files, *self._links))


def _directories(*paths: Iterable[str]) -> list[str]:
    found = {str(parent) for group in paths for path in group for parent in _parents(path)}
    return sorted(found - {"."})


def _parents(path: str) -> Iterable[PurePosixPath]:
    return PurePosixPath(path).parents


def _entry(path: str, kind: bytes, mode: int, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.size, entry.mtime = kind, mode, size, 0
    return entry


def _alike(paths: Iterable[str]) -> Iterator[str]:
    """Those that differ from another one only in how Unicode composes their letters."""
    seen: set[str] = set()
    for path in paths:
        if not path.isascii():
            if composed(path) in seen:
                yield path
            seen.add(composed(path))


class Gatherer:
    """Collects files within the limits."""

    def __init__(self, limits: Limits, root: str = "") -> None:
        """`root`: the folder on this host, if there is one."""
        self.limits = limits
        self.root = root
        self._files: dict[str, SourceFile] = {}
        self._links: dict[str, str] = {}
        self._size = 0
        self._warnings: list[Problem] = []
        self._seen = 0

    def see(self) -> None:
        """One more entry, whether or not it becomes part of the workspace: looking at it takes
        time, too. Raises LimitError."""
        self._seen += 1
        most = 2 * self.limits.files + 100
        if self._seen > most:
            raise self.too_many(f"{most} files, folders and skipped entries")

    def too_many(self, what: str) -> LimitError:
        return LimitError(f"the workspace holds more than {what}; leave out what is generated")

    def room_for(self, path: str, size: int) -> None:
        """Raises LimitError if another file of this size would exceed a limit; call before reading
        it."""
        if len(self._files) + len(self._links) >= self.limits.files:
            raise self.too_many(f"{self.limits.files} files")
        if self._size + size > self.limits.bytes:
            most = self.limits.bytes // 1_000_000
            raise LimitError(
                f"the workspace is larger than {most} MB (at '{_shown(path)}'); keep data"
                " outside of it"
            )

    def add(self, path: str, content: bytes, *, is_program: bool) -> None:
        self.room_for(path, len(content))
        self._files[path] = SourceFile(path, content, is_program)
        self._size += len(content)
        if path.endswith((".sh", ".bash")) and b"\r\n" in content:
            self._warn(path, "line_ends", _WINDOWS)
        if content.startswith(_POINTER) and len(content) <= _LARGEST_POINTER:
            self._warn(path, "lfs", _LFS)

    def add_link(self, path: str, target: str) -> None:
        """A symbolic link; `tree` leaves it out if it leads out of the workspace or to nothing."""
        if not all(letter.isprintable() and letter != "\\" for letter in target):
            self.leave_out(path, "it is a symbolic link whose target is not a plain path")
            return
        self.room_for(path, 0)
        self._links[path] = target

    def leave_out(self, path: str, why: str) -> None:
        self._warn(path, "left_out", f"left out: {why}")

    def _warn(self, path: str, code: str, message: str) -> None:
        if len(self._warnings) < _MOST_WARNINGS:
            self._warnings.append(Problem(Place(_shown(path)), code, message, "warning"))

    def accepts(self, path: str) -> bool:
        """False, with a warning, for names that not every worker can store."""
        problem = _name_problem(path)
        if problem:
            self.leave_out(path, problem)
        return problem is None

    def tree(self, label: str = "") -> Tree:
        links = self._settle_links()
        for path in _alike((*self._files, *links)):
            self._warn(path, "name-collision", _COMPOSED)
        return Tree(
            tuple(self._files[path] for path in sorted(self._files)),
            label,
            tuple(self._warnings),
            {path: links[path] for path in sorted(links)},
        )

    def _settle_links(self) -> dict[str, str]:
        """The links that lead to a file or a folder of the tree. To leave one out may empty a
        folder that another leads to, so it looks until nothing changes."""
        links = dict(self._links)
        for _ in range(_MOST_PASSES):
            folders = {*_directories(self._files, links), ""}
            bad: dict[str, str] = {}
            for path in links:
                try:
                    follow(path, links, folders, self._files)
                except BadLink as reason:
                    bad[path] = str(reason)
            if not bad:
                return links
            for path, why in bad.items():
                self.leave_out(path, f"it is a symbolic link, and {why}")
                del links[path]
        raise LimitError("the workspace's symbolic links hang on one another too deeply")


def _name_problem(path: str) -> str | None:
    try:
        encoded = path.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if len(encoded) > LONGEST_PATH or any(len(part.encode()) > 255 for part in path.split("/")):
        return "its name is too long"
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in path) or "\\" in path:
        return "its name contains a control character or a backslash"
    if any(part in ("", ".", "..") for part in path.split("/")):
        return "its name leads out of the workspace"
    if any(part.lower() == ".git" for part in path.split("/")):
        return "it belongs to git"
    return None


def _shown(path: str) -> str:
    return plain(path[:300])


# A folder


def read_folder(path: Path, limits: Limits = Limits()) -> Tree:
    """Every regular file below `path`. Raises SourceError if the folder is missing or a limit is
    exceeded."""
    try:
        root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise SourceError(f"there is no folder {plain(path)}") from None
    except NotADirectoryError:
        raise SourceError(f"{plain(path)} is a file; name its folder") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"the folder {plain(path)} cannot be read: {_reason(error)}") from None
    gatherer = Gatherer(limits, os.path.realpath(path))
    try:
        _walk(root, "", gatherer, 0)
    finally:
        os.close(root)
    return gatherer.tree()


def _walk(directory: int, prefix: str, gatherer: Gatherer, depth: int) -> None:
    if depth > gatherer.limits.depth:
        gatherer.leave_out(prefix, f"it lies more than {gatherer.limits.depth} folders deep")
        return
    for name in _names(directory, gatherer):
        path = f"{prefix}{name}"
        if name in NEVER or not gatherer.accepts(path):
            continue
        if name in LEFT_OUT or (depth == 0 and name in LEFT_OUT_AT_ROOT):
            gatherer.leave_out(path, "folders of this name are never part of a workspace")
            continue
        try:
            _take(directory, name, path, gatherer, depth)
        except OSError as error:
            gatherer.leave_out(path, f"it cannot be read: {_reason(error)}")


def _names(directory: int, gatherer: Gatherer) -> list[str]:
    names = []
    with os.scandir(directory) as entries:
        for entry in entries:
            gatherer.see()
            names.append(entry.name)
    return sorted(names)


def _take(directory: int, name: str, path: str, gatherer: Gatherer, depth: int) -> None:
    kind = os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode
    if stat.S_ISLNK(kind):
        target = os.readlink(name, dir_fd=directory)
        gatherer.add_link(path, _inner(target, path, gatherer.root))
    elif stat.S_ISDIR(kind):
        inner = os.open(name, _DIRECTORY, dir_fd=directory)
        try:
            _walk(inner, f"{path}/", gatherer, depth + 1)
        finally:
            os.close(inner)
    elif stat.S_ISREG(kind):
        _read(directory, name, path, gatherer)
    else:
        gatherer.leave_out(path, "it is not a regular file")


def _inner(target: str, path: str, root: str) -> str:
    """An absolute target inside the folder, relative to the link; any other as it is."""
    if target == root or target.startswith(f"{root}/"):
        up = "../" * path.count("/")
        return f"{up}{target[len(root) :].lstrip('/')}" or "."
    return target


def _read(directory: int, name: str, path: str, gatherer: Gatherer) -> None:
    with os.fdopen(os.open(name, _FILE, dir_fd=directory), "rb") as handle:
        found = os.fstat(handle.fileno())
        if not stat.S_ISREG(found.st_mode):  # replaced since the check
            gatherer.leave_out(path, "it is not a regular file")
            return
        gatherer.room_for(path, found.st_size)
        content = handle.read(gatherer.limits.bytes + 1)
    gatherer.add(path, content, is_program=bool(found.st_mode & stat.S_IXUSR))


def _reason(error: Exception) -> str:
    return error.strerror.lower() if isinstance(error, OSError) and error.strerror else str(error)
