"""Values and files that people and programs put into a state: checked as a stranger's."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from apps.accounts.models import User
from apps.artifacts import blobs
from apps.artifacts.models import StateVersion
from apps.artifacts.state import keeping
from apps.artifacts.state.keeping import Writer
from apps.audit.services import note
from apps.jobs import services
from apps.jobs.database.sql import retried
from apps.workspaces.errors import SecretError
from apps.workspaces.models import Workspace
from apps.workspaces.revisions import sensitive_of
from engine import archives
from engine.archives import BadArchive
from engine.errors import AuthorError, NotFound
from engine.state import MOST_FILE_BYTES, MOST_FILES, VALUES_FILE, Change, Kept, StateFile

MODES = ("replace", "merge")
GLOBAL_TASK = "_global_state"  # of the job that stands for an upload to a workspace
MOST_BODY_BYTES = MOST_FILE_BYTES
_LIMITS = archives.Limits(MOST_FILES, MOST_FILE_BYTES)
_HAS_VALUES = (
    f"Uploaded tarball must not contain a root-level {VALUES_FILE}; pass state values via query"
    " parameters"
)


@dataclass(frozen=True, slots=True)
class Upload:
    """`task_name` is empty for the state of the workspace."""

    workspace: Workspace
    task_name: str
    mode: str
    values: Mapping[str, str]
    by: User
    files: tuple[StateFile, ...] = ()
    size: int = 0
    digest: str = field(default="")


def upload(
    workspace: Workspace,
    task_name: str,
    body: archives.Readable,
    *,
    mode: str,
    values: Mapping[str, str],
    by: User,
) -> tuple[StateVersion, UUID]:
    """Store the files of this tar.gz (which may be empty) and these values as the next version;
    returns it, and the job that stands for it. `mode`: `replace` what there is, or `merge`.

    Raises AuthorError, NotFound, TooLarge, StorageAway.
    """
    if mode not in MODES:
        raise AuthorError(f"Invalid mode '{mode[:40]}': must be 'replace' or 'merge'")
    if workspace.current_id is None:
        raise NotFound(f"Workspace '{workspace.name}' has no usable revision")
    measured = _Measured(body)
    files = _stored(measured)
    measured.drain()
    given = Upload(workspace, task_name, mode, values, by, files, measured.size, measured.digest)
    return _record(given)


def _stored(body: _Measured) -> tuple[StateFile, ...]:
    if not body.has_more():
        return ()
    files = []
    for entry in archives.read_tar(body, _LIMITS, is_gzip=True):
        if entry.path == VALUES_FILE:
            raise BadArchive(_HAS_VALUES)
        stored = blobs.put(entry.data)  # type: ignore[arg-type]  # it only reads
        files.append(StateFile(entry.path, stored.size, stored.digest, entry.is_program, stored.id))
    return tuple(files)


@retried
def _record(given: Upload) -> tuple[StateVersion, UUID]:
    workspace, by = given.workspace, given.by
    opened = keeping.locked(workspace.pk, given.task_name)
    change = _change(given, opened.kept, keeping.files_of(opened.row.files_id))
    refusal = keeping.too_large(opened.kept.after(change), str(opened.row))
    if refusal:
        raise AuthorError(refusal)
    masks = _masks(workspace)
    version = keeping.record(opened, change, Writer("upload", by=by.email), masks=masks)
    told = {
        "size_bytes": given.size,
        "sha256": given.digest,
        "has_json": bool(given.values),
        "uploaded_by": by.email,
        "mode": given.mode,
    }
    job = services.record_job(
        workspace,
        given.task_name or GLOBAL_TASK,
        source_type="upload",
        user=by,
        input={"upload": told},
        output={"snapshot_id": str(version.pk)},
    )
    of, where = given.task_name or "workspace", workspace.name
    numbers = {"version": {"before": opened.kept.version, "after": version.number}}
    note("state.upload", of, by=by.email, workspace=where, changes=numbers, detail=given.mode)
    version.job_id = job.pk
    version.save(update_fields=["job_id"])
    return version, job.pk


def _change(given: Upload, kept: Kept, before: tuple[StateFile, ...]) -> Change:
    if given.mode == "replace":
        removed = tuple(key for key in kept.values if key not in given.values)
        return Change(kept.version, given.values, removed, given.files)
    new = {file.path: file for file in given.files}
    merged = (*(file for file in before if file.path not in new), *given.files)
    size = sum(file.size for file in merged)
    if size > MOST_FILE_BYTES or len(merged) > MOST_FILES:
        raise AuthorError(
            f"Merged snapshot exceeds {MOST_FILE_BYTES} bytes; use mode=replace or reduce payload"
        )
    return Change(kept.version, given.values, (), merged if given.files else None)


def _masks(workspace: Workspace) -> tuple[str, ...]:
    assert workspace.current_id is not None, "checked before"
    try:
        return sensitive_of(workspace.current_id)
    except SecretError:
        return ()


class _Measured(io.RawIOBase):
    """A body, with its size and hash."""

    def __init__(self, body: archives.Readable) -> None:
        self._body = body
        self._hash = hashlib.sha256()
        self._next = b""
        self.size = 0

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def readable(self) -> bool:
        return True

    def has_more(self) -> bool:
        if not self._next:
            self._next = self._take(1)
        return bool(self._next)

    def read(self, size: int = -1) -> bytes:
        first, self._next = self._next, b""
        return first + self._take((1 << 16 if size < 0 else size) - len(first))

    def drain(self) -> None:
        """What comes after the archive belongs to the body, too."""
        while self.read(1 << 16):
            pass

    def _take(self, size: int) -> bytes:
        piece = self._body.read(size)
        self.size += len(piece)
        if self.size > MOST_BODY_BYTES:
            raise BadArchive(f"the body is larger than {MOST_BODY_BYTES >> 20} MB")
        self._hash.update(piece)
        return piece
