"""Directories that only their owner may enter, and paths short enough for sockets."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from standalone.embedded.wheels import EmbeddedError
from standalone.supervision.lifeline import Lifeline

LONGEST_SOCKET = 103  # macOS allows 103 bytes, Linux 107
LONGEST_NAME = len("/.s.PGSQL.5432")


def private_folder(path: Path) -> Path:
    """Create `path` with mode 0700, or restrict it to that. Raises EmbeddedError if it belongs to
    another user."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise EmbeddedError(
                f"{path} belongs to another user: remove it, or choose another data_dir."
            ) from None
        if found.st_mode & 0o077:
            path.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 atomically."""
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as handle:
        handle.write(text)
    draft.replace(path)


def socket_folder(data_dir: Path) -> Path:
    """The folder for the sockets of the servers in `data_dir`: inside it, unless its path is too
    long."""
    inside = data_dir / "run"
    if len(os.fsencode(inside)) + LONGEST_NAME <= LONGEST_SOCKET:
        return private_folder(inside)
    mark = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    for base in (runtime, tempfile.gettempdir(), "/tmp"):  # noqa: S108  (private_folder checks the owner)
        if base and os.access(base, os.W_OK | os.X_OK):
            outside = Path(base) / f"stroem-{os.geteuid()}-{mark}"
            if len(os.fsencode(outside)) + LONGEST_NAME <= LONGEST_SOCKET:
                return private_folder(outside)
    raise EmbeddedError(
        f"The path of {data_dir} is too long for a socket, and no other directory was found: set"
        " TMPDIR to one with a short path."
    )


def temporary_folders(lifeline: Lifeline) -> tuple[Path, Path]:
    """A private directory and one for sockets; both are removed after this process has ended."""
    folder = Path(tempfile.mkdtemp(prefix="stroem-"))
    lifeline.remove_at_end(folder)
    sockets = socket_folder(folder)
    if sockets.parent != folder:
        lifeline.remove_at_end(sockets)
    return folder, sockets
