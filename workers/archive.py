"""Unpacks the archive of a revision: directories, regular files, and links that stay inside; within
limits.

Links are only noted: nothing is ever written or read through one."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import PlatformError
from engine.links import BadLink, follow
from runners import anchored

MAX_ENTRIES = 200_000
MAX_BYTES = 4 << 30
MAX_PATH = 1024
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class FileEntry:
    mode: int  # 0o644 or 0o755
    digest: str  # SHA-256 of the contents


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of a tree: directories (parents first), files, and symbolic links with their
    targets, by path below its root."""

    folders: tuple[str, ...]
    files: Mapping[str, FileEntry]
    links: Mapping[str, str] = field(default_factory=dict)

    def dumps(self) -> str:
        return json.dumps(
            {
                "folders": self.folders,
                "files": {p: [f.mode, f.digest] for p, f in self.files.items()},
                "links": dict(self.links),
            }
        )

    @classmethod
    def loads(cls, text: str) -> Manifest:
        """Raises ValueError, KeyError or TypeError when `text` is not a manifest."""
        read = json.loads(text)
        return cls(
            tuple(read["folders"]),
            {path: FileEntry(*entry) for path, entry in read["files"].items()},
            {str(path): str(target) for path, target in read.get("links", {}).items()},
        )


def unpack(archive: bytes, into: Path) -> Manifest:
    """Unpack a tar.gz into `into`, an empty directory. Raises PlatformError for anything odd."""
    folders: dict[str, None] = {}
    files: dict[str, FileEntry] = {}
    links: dict[str, str] = {}
    left = MAX_BYTES
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:*") as tar:
            for count, member in enumerate(tar):
                if count >= MAX_ENTRIES:
                    raise PlatformError(
                        f"the workspace archive has more than {MAX_ENTRIES} entries"
                    )
                path = _safe(member.name)
                if path:
                    _add_parents(
                        path if member.isdir() else os.path.dirname(path),
                        folders,
                        links,
                        files,
                        into,
                    )
                if member.isdir():
                    continue
                is_taken = not path or path in folders or path in files or path in links
                if member.issym() and not is_taken:
                    links[path] = member.linkname
                    continue
                if not member.isreg() or is_taken:
                    raise PlatformError(
                        f"the workspace archive contains {member.name!r}, which is not a plain file"
                    )
                left -= member.size
                if left < 0:
                    raise PlatformError(f"the workspace archive has more than {MAX_BYTES} bytes")
                files[path] = _write(tar, member, into / path)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise PlatformError(f"the workspace archive cannot be read: {error}") from error
    _check_links(links, folders, files)
    return Manifest(tuple(sorted(folders)), files, links)


def _check_links(
    links: Mapping[str, str], folders: Mapping[str, None], files: Mapping[str, FileEntry]
) -> None:
    """Refuse an archive with a link that leads out of the workspace, or to nothing."""
    for path in links:
        try:
            follow(path, links, folders, files)
        except BadLink as reason:
            raise PlatformError(
                f"the workspace archive contains the symbolic link {path[:80]!r}: {reason}"
            ) from None


def copy_file(
    source: Path, name: str, mode: int, within: int, owner: anchored.Owner | None
) -> tuple[str, os.stat_result]:
    """Copy the contents into a new file of the directory `within`, and return their digest and what
    the file then is. Never overwrites a file."""
    digest = hashlib.sha256()
    with open(source, "rb", buffering=0) as data:
        fd = os.open(name, anchored.FRESH, 0o600, dir_fd=within)
        with open(fd, "wb", buffering=0) as out:
            while chunk := data.read(_CHUNK):
                digest.update(chunk)
                anchored.write_all(fd, chunk)
            if owner is not None:
                os.fchown(fd, *owner)
            os.fchmod(fd, mode)
            return digest.hexdigest(), os.fstat(out.fileno())


def digest_of(name: str, within: int) -> str:
    """SHA-256 of the contents of a file of the directory `within`."""
    with open(os.open(name, anchored.FILE, dir_fd=within), "rb", buffering=0) as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def _safe(name: str) -> str:
    """`name` as a relative path; empty for the root itself."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    path = "/".join(parts)
    if name.startswith("/") or ".." in parts or "\0" in name or len(os.fsencode(path)) > MAX_PATH:
        raise PlatformError(
            f"the workspace archive contains {name[:80]!r}, which lies outside the workspace"
        )
    return path


def _add_parents(
    path: str,
    folders: dict[str, None],
    links: Mapping[str, str],
    files: Mapping[str, FileEntry],
    into: Path,
) -> None:
    at = ""
    for part in path.split("/") if path else ():
        at = f"{at}/{part}" if at else part
        if at in folders:
            continue
        if at in files or at in links:
            raise PlatformError(
                f"the workspace archive contains {at!r} both as a file and as a directory"
            )
        os.mkdir(into / at, 0o700)
        folders[at] = None


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> FileEntry:
    mode = 0o755 if member.mode & 0o100 else 0o644
    digest = hashlib.sha256()
    data = tar.extractfile(member)
    assert data is not None
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(fd, "wb", buffering=0) as out:
        while chunk := data.read(_CHUNK):
            digest.update(chunk)
            anchored.write_all(out.fileno(), chunk)
        os.fchmod(out.fileno(), mode)
    return FileEntry(mode, digest.hexdigest())
