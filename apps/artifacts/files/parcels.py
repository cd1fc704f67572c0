"""Files of pods: they reach no database, so they send and fetch them as one tar, through the
server. What comes is checked like what a worker finds."""

from __future__ import annotations

import io
import stat
import tarfile
from collections.abc import Generator
from typing import BinaryIO, cast

from apps.artifacts import blobs
from apps.artifacts.errors import TooLarge
from apps.artifacts.files import leaving, shelf
from apps.artifacts.values import Left
from apps.jobs.flow import abroad, blueprints, contexts
from apps.jobs.models import Attempt, Job, Step
from apps.jobs.plans import Node
from engine import artifacts as rules
from engine.errors import AuthorError, Conflict, NotFound
from engine.resources import show_bytes
from engine.spec.model import Artifacts

NOTHING = Artifacts()


def wanted(attempt_id: int) -> Artifacts:
    """What the step of this attempt says about files. Raises NotFound."""
    return _node(attempt_id).step.artifacts or NOTHING


def _node(attempt_id: int) -> Node:
    base, blueprint = (
        Step.objects.filter(id__in=Attempt.objects.filter(id=attempt_id).values("step_id"))
        .values_list("base", "job__blueprint_id")
        .first()
    ) or (None, None)
    if base is None or blueprint is None:
        raise NotFound("There is no such step")
    return blueprints.load(blueprint).nodes[base]


def take_in(attempt_id: int, fence: int, stream: BinaryIO, files: int, *, has_failed: bool) -> str:
    """Store a tar with this number of files, all or none; returns sentences for the step's log.
    `has_failed`: the step's script has.

    Raises AuthorError, and Conflict if the attempt is not alive any more.
    """
    said, left, total = list[str](), list[Left](), 0
    secrets = _secrets(attempt_id)
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for entry in tar:
                name = entry.name.removeprefix("./")
                if entry.isdir():
                    continue
                if not entry.isreg():
                    said.append(
                        f"Warning: the artifact {name!r} is no regular file, and is left out"
                    )
                    continue
                total += entry.size
                _refuse(name, entry.size, total, len(left) + 1)
                if any(secret in name for secret in secrets):
                    raise AuthorError("the name of a file holds a secret value")
                left.append(_put(tar, entry, name))
    except tarfile.TarError as error:
        raise AuthorError(f"the files did not arrive as a whole: {error}") from None
    if len(left) != files:
        raise AuthorError(f"only {len(left)} of {files} files arrived")
    retain = wanted(attempt_id).retain
    retain_s = None if retain is None else retain.seconds
    if left and not leaving.leave(attempt_id, fence, left, retain_s, has_failed=has_failed):
        raise Conflict("The step has ended: its files come too late")
    count = "1 artifact" if len(left) == 1 else f"{len(left)} artifacts"
    return "\n".join([*said, f"Stored {count} ({show_bytes(total)})"])


def _secrets(attempt_id: int) -> tuple[str, ...]:
    job = Attempt.objects.filter(id=attempt_id).values("job_id")
    return contexts.masks_of(Job.objects.get(id__in=job), abroad.masks_of(_node(attempt_id)))


def _refuse(name: str, size: int, total: int, files: int) -> None:
    limits = leaving.limits()
    if (objection := rules.find_objection(name)) is not None:
        raise AuthorError(f"the name {name[:100]!r} {objection}")
    if size > limits.file_bytes:
        raise TooLarge(
            f"{name!r} has {show_bytes(size)}, and a file may have"
            f" {show_bytes(limits.file_bytes)} (`artifacts.file_mb`)"
        )
    if total > limits.job_bytes:
        raise TooLarge(f"a job may leave {show_bytes(limits.job_bytes)} (`artifacts.job_mb`)")
    if files > limits.files:
        raise TooLarge(f"a job may leave {limits.files:,} files (`artifacts.files`)")


def _put(tar: tarfile.TarFile, entry: tarfile.TarInfo, name: str) -> Left:
    content = tar.extractfile(entry)
    assert content is not None
    with content:
        head = content.read(rules.HEAD_BYTES)
        joined = io.BufferedReader(_Joined(head, cast(BinaryIO, content)))
        stored = blobs.put(joined)
    is_program = bool(entry.mode & stat.S_IXUSR)
    return Left(name, rules.type_of(name, head), stored.id, stored.size, is_program)


class _Joined(io.RawIOBase):
    """What was read ahead, then the rest: a stream without a way back."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = head, rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._head[: len(buffer)] or self._rest.read(len(buffer))
        self._head = self._head[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)


def given_out(attempt_id: int) -> Generator[bytes, None, None]:
    """A tar with what the step of this attempt takes, a directory for each step."""
    job_id = Attempt.objects.values_list("job_id", flat=True).get(id=attempt_id)
    steps = wanted(attempt_id).takes
    for step in steps:
        yield _entry(step, 0, tarfile.DIRTYPE, 0o755)
    for row in shelf.of_job(job_id, steps).select_related("blob"):
        base, _, index = row.step_name.partition("[")
        place = f"{base}/{index.rstrip(']')}" if index else base
        mode = 0o755 if row.is_program else 0o644
        yield _entry(f"{place}/{row.name}", row.size_bytes, tarfile.REGTYPE, mode)
        yield from blobs.pieces(row.blob)
        yield b"\0" * (-row.size_bytes % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)


def _entry(name: str, size: int, kind: bytes, mode: int) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.type, entry.mode = size, kind, mode
    return entry.tobuf(tarfile.GNU_FORMAT)
