"""Gets files into a container: by bind mount if the engine sees the worker's paths, else by
archive.

A worker in a container or pod may not share paths with its engine. A marker file shows, once per
file system, whether a bind mount would show the right files.
"""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import tarfile
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from engine.errors import AuthorError
from engine.orders import HELPER, STATE_VARIABLES, StateFolders, StepOrder
from runners.containers import states
from runners.containers.script import STARTUP, WORKSPACE
from runners.docker.config import DockerConfig
from runners.docker.connection import Connection
from runners.docker.errors import EngineRefused
from runners.docker.request import build_labels, name_container

_PROBE = "/stroem-probe"


class Workspaces:
    """Knows which of the worker's file systems the engine can see."""

    def __init__(self, connection: Connection, config: DockerConfig) -> None:
        self._connection = connection
        self._config = config
        self._lock = threading.Lock()
        self._visible: dict[tuple[int, str], bool] = {}

    def can_bind(self, directory: Path, order: StepOrder, image: str) -> bool:
        """Whether a bind mount of `directory` would show its files in a container."""
        if self._config.sharing != "auto":
            return self._config.sharing == "bind"
        key = (directory.stat().st_dev, _find_mount_point(directory))
        with self._lock:
            if key not in self._visible:
                self._visible[key] = self._probe(directory.parent, order, image)
            return self._visible[key]

    def fill_volume(self, order: StepOrder, image: str, directory: Path) -> str:
        """A new volume with the files of `directory`; removed with the attempt."""
        name = f"{name_container(order.attempt)}-workspace"
        labels = build_labels(order, self._config)
        self._connection.call("create_volume", name, labels=labels)
        mount = {"Type": "volume", "Source": name, "Target": WORKSPACE, "ReadOnly": False}
        with self._helper(order, image, mount, "fill") as container:
            self.copy_tree(container, directory, order.scratch_dir, is_writable=False)
        return name

    def copy_tree(
        self,
        container: str,
        directory: Path,
        scratch: Path,
        *,
        is_writable: bool,
        place: str = WORKSPACE,
    ) -> None:
        """Copy the files of `directory` to a place of a container that has not started yet."""
        with tempfile.TemporaryFile(dir=scratch) as archive:
            with tarfile.open(fileobj=archive, mode="w") as tar:
                tar.add(
                    directory,
                    place.lstrip("/"),
                    filter=lambda entry: _normalise(entry, is_writable=is_writable),
                )
            self.put(container, archive)

    def find_taken(self, order: StepOrder, image: str) -> str | None:
        """The directory of the artifacts that the step takes, if it can be bind-mounted."""
        taken = order.shelves.taken if order.shelves is not None else None
        if taken is None or not self.can_bind(taken, order, image):
            return None
        return str(taken.resolve())

    def find_helper(self, order: StepOrder, image: str) -> str | None:
        """The directory of the command `stroem-step`, which must be mounted: its pipes lead to this
        process. Raises AuthorError if the step calls it and cannot have it."""
        if order.helper is None:
            return None
        if self.can_bind(order.scratch_dir, order, image):
            return str(order.helper.path.resolve())
        if order.helper.is_needed:
            raise AuthorError(
                f"the step calls `{HELPER}`, which needs a Docker engine that sees the worker's"
                " disk; print STATE: and OUTPUT: lines instead, or run the step on another worker"
            )
        return None

    def write_files(self, order: StepOrder, image: str, files: Mapping[str, str]) -> str | None:
        """Write the script's files to a directory that can be bind-mounted and return it; None if
        none can.

        The parent directory is closed to other users of the host; every user of the image may read
        the files.
        """
        if not self.can_bind(order.scratch_dir, order, image):
            return None
        directory = order.scratch_dir / "container"
        directory.mkdir(exist_ok=True)
        directory.chmod(0o755)
        for name, text in files.items():
            (directory / name).unlink(missing_ok=True)
            (directory / name).write_bytes(_encode(text))
            (directory / name).chmod(0o555)
        return str(directory.resolve())

    def find_startup(self, order: StepOrder, image: str) -> str | None:
        """The directory of the worker's start-up scripts if it can be bind-mounted."""
        directory = self._config.startup_dir
        if not directory.is_dir() or not self.can_bind(directory, order, image):
            return None
        return str(directory.resolve())

    def read_startup(self) -> dict[str, str]:
        """The worker's start-up scripts by their paths in a container."""
        scripts = (
            sorted(self._config.startup_dir.glob("*.sh"))
            if self._config.startup_dir.is_dir()
            else []
        )
        return {
            f"{STARTUP}/{path.name}": path.read_text(encoding="utf-8", errors="replace")
            for path in scripts
        }

    def put_state(self, container: str, folders: StateFolders, scratch: Path) -> None:
        """Write the directories of state in a container that has not started yet."""
        with tempfile.TemporaryFile(dir=scratch) as archive:
            states.pack(folders, archive)
            self.put(container, archive)

    def fetch_state(self, container: str, folders: StateFolders) -> None:
        """Read what a container that has ended has left in them."""
        for variable in states.OUT:
            path = STATE_VARIABLES[variable]
            chunks, _ = self._connection.call("get_archive", container, path)
            folder = folders.by_variable[variable]
            with self._connection.open():
                states.unpack(states.Chunks(chunks), folder, variable, below=path.lstrip("/"))

    def put_files(self, container: str, texts: Mapping[str, str]) -> None:
        """Write texts to their paths in a container that has not started yet."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            _add_texts(tar, texts)
        self.put(container, archive)

    def put(self, container: str, archive: IO[bytes]) -> None:
        archive.seek(0)
        self._connection.call("put_archive", container, "/", archive)

    def _probe(self, directory: Path, order: StepOrder, image: str) -> bool:
        text = secrets.token_hex(16)
        marker = directory / f".stroem-probe-{text[:8]}"
        try:
            marker.write_text(text, encoding="ascii")
        except OSError:
            return False  # copying always works
        mount = {"Type": "bind", "Source": str(directory), "Target": _PROBE, "ReadOnly": True}
        try:
            with self._helper(order, image, mount, "probe") as container:
                return self._read(container, f"{_PROBE}/{marker.name}") == text
        except EngineRefused:
            return False  # the engine has no such directory
        finally:
            marker.unlink(missing_ok=True)

    def _read(self, container: str, path: str) -> str:
        chunks, _ = self._connection.call("get_archive", container, path)
        with self._connection.open(), tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
            member = tar.next()
            content = tar.extractfile(member) if member is not None and member.isfile() else None
            return content.read(64).decode("ascii", "replace") if content is not None else ""

    @contextlib.contextmanager
    def _helper(self, order: StepOrder, image: str, mount: dict[str, Any], purpose: str) -> Any:
        """A container that never starts: it only gives access to a mount."""
        request = {
            "Image": image,
            "Entrypoint": ["sh"],
            "Labels": build_labels(order, self._config),
            "HostConfig": {"Mounts": [mount], "NetworkMode": "none"},
        }
        name = f"{name_container(order.attempt)}-{purpose}"
        created = self._connection.call("create_container_from_config", request, name)
        try:
            yield created["Id"]
        finally:
            self._connection.forget_missing(
                lambda: self._connection.call("remove_container", created["Id"], force=True, v=True)
            )


def _find_mount_point(directory: Path) -> str:
    path = directory.resolve()
    while not os.path.ismount(path):
        path = path.parent
    return str(path)


def _normalise(entry: tarfile.TarInfo, *, is_writable: bool) -> tarfile.TarInfo | None:
    """Owned by root and readable, or writable, by all users: images run as any user."""
    if not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
        return None
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    if entry.isdir():
        entry.mode = 0o777 if is_writable else 0o755
    else:
        entry.mode = (0o666 if is_writable else 0o644) | (0o111 if entry.mode & 0o111 else 0)
    return entry


def _add_texts(tar: tarfile.TarFile, texts: Mapping[str, str]) -> None:
    """Files and the directories they are in, readable by every user of the image."""
    for directory in sorted({str(PurePosixPath(path).parent) for path in texts}):
        parent = tarfile.TarInfo(directory.lstrip("/"))
        parent.type, parent.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(parent)
    for path, text in texts.items():
        data = _encode(text)
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.size, entry.mode = len(data), 0o755
        tar.addfile(entry, io.BytesIO(data))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
