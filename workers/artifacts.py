"""Files that a step leaves and takes: between its directories and the storage.

They are stored before the end of the step is reported, so that no step completes without them.
A storage or a database that is away is waited for, as long as the lease lasts. What a step left is
read by descriptor, and only what is its own: a link leads nowhere, and so does a foreign file.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, BinaryIO, TypeVar

from apps.artifacts.ledger import Left, Limits, StorageAway, Taken
from engine import artifacts as rules
from engine import globs
from engine.errors import AuthorError, StroemError
from engine.orders import ScriptWork, Shelves, StepOrder, StepOutcome, Verdict
from engine.resources import show_bytes
from engine.spec.model import Artifacts as Wanted
from runners import anchored
from workers.attempts import Attempt, fields
from workers.door import OUTAGES, ArtifactLedger
from workers.trees import Scratch

log = logging.getLogger("stroem.worker")
T = TypeVar("T")
Say = Callable[[str], None]
SHORTEST_S, LONGEST_S = 0.2, 5.0
NOTHING = Wanted()


class Stopped(Exception):
    """The attempt has to end."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file below `root`; `name` is also that of the artifact."""

    root: Path
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Leaving:
    """An attempt at its end, whose files are to be stored. `owner`: the user it ran as."""

    attempt: Attempt
    order: StepOrder
    wanted: Wanted | None
    owner: anchored.Owner | None
    say: Say
    is_local: bool  # its working directory is on this host

    @property
    def work(self) -> Path | None:
        if not self.is_local or not isinstance(self.order.work, ScriptWork):
            return None
        root = self.order.work.workspace_dir or self.order.scratch_dir
        return root / (self.order.workdir or "")


class Shelf:
    """Brings what steps take and stores what they leave. Thread-safe."""

    def __init__(self, ledger: ArtifactLedger) -> None:
        self._ledger = ledger

    def prepare(
        self, attempt: Attempt, wanted: Wanted | None, scratch: Scratch, *, is_local: bool
    ) -> Shelves:
        """The directories of a step, with what it takes. Raises StroemError."""
        wanted, taken = wanted or NOTHING, None
        if wanted.takes:
            taken = scratch.taken
            with suppress(Stopped):  # then the step does not start
                self._bring(attempt, wanted.takes, taken, scratch.owner)
        most = 0 if is_local else self._ledger.limits().job_bytes
        return Shelves(scratch.left, taken, wanted.paths, wanted.on_failure, most)

    def _bring(
        self, attempt: Attempt, steps: Sequence[str], folder: Path, owner: anchored.Owner | None
    ) -> None:
        """Put the artifacts of these steps into `folder`, a directory each."""
        patient = Patience(self._ledger, attempt)
        files = patient(lambda: self._ledger.taken(attempt.claim, steps))
        with anchored.folder(folder.parent) as above:
            root = anchored.make_folder(folder.name, above, 0o755)
        try:
            for step in steps:
                _below(root, step, owner)
            for file in files:
                patient(partial(self._fetch, root, file, owner))
        finally:
            anchored.give(root, owner)

    def _fetch(self, root: int, file: Taken, owner: anchored.Owner | None) -> None:
        base, _, index = file.step_name.partition("[")
        place = f"{base}/{index.rstrip(']')}" if index else base
        with ExitStack() as opened:
            fd, *parts = root, *f"{place}/{file.name}".split("/")
            for part in parts[:-1]:
                fd = opened.enter_context(_entered(fd, part, owner))
            source = opened.enter_context(self._ledger.open_taken(file))
            _copy(source, fd, parts[-1], owner, 0o755 if file.is_program else 0o644)

    def tell_end(self, attempt: Attempt, exit_code: int) -> None:
        """Let the pod of the attempt send its files: its image has ended."""
        with suppress(Stopped):
            Patience(self._ledger, attempt)(lambda: self._ledger.tell_end(attempt.claim, exit_code))

    def keep(self, leaving: Leaving, outcome: StepOutcome) -> StepOutcome:
        """The outcome of an attempt once its files are stored; a failure if they cannot be."""
        wanted = leaving.wanted or NOTHING
        has_failed = outcome.verdict in (Verdict.FAILED, Verdict.TIMED_OUT)
        is_wanted = outcome.verdict is Verdict.SUCCEEDED or (has_failed and wanted.on_failure)
        if leaving.order.shelves is None or leaving.attempt.is_endless or not is_wanted:
            return outcome
        try:
            found = _find(leaving, wanted, leaving.order.shelves.left)
            if found:
                self._store(leaving, found, wanted, has_failed=has_failed)
        except Stopped:
            return stopped(leaving.attempt, outcome)
        except OSError as error:
            return _failed(outcome, f"they cannot be read: {error.strerror or error}")
        except StroemError as error:
            log.warning("artifacts: %s", error, extra=fields(leaving.attempt.claim))
            return _failed(outcome, str(error), is_final=isinstance(error, AuthorError))
        except Exception as error:  # a bug of ours: the step must not wait for its lease
            log.exception("storing artifacts failed", extra=fields(leaving.attempt.claim))
            return _failed(outcome, f"{type(error).__name__}; see the worker's log")
        return outcome

    def _store(
        self, leaving: Leaving, found: Sequence[Found], wanted: Wanted, *, has_failed: bool
    ) -> None:
        claim, sizes = leaving.attempt.claim, [file.size for file in found]
        _refuse(found, self._ledger.limits(), leaving.order.secrets)
        patient = Patience(self._ledger, leaving.attempt, leaving.say)
        patient(lambda: self._ledger.refuse_beyond(claim, sizes))
        files = [self._put(patient, file, leaving.owner) for file in found]
        retain_s = wanted.retain.seconds if wanted.retain is not None else None
        leave = partial(self._ledger.leave, claim, files, retain_s, has_failed=has_failed)
        if not patient(leave):
            raise Stopped
        count = "1 artifact" if len(files) == 1 else f"{len(files)} artifacts"
        leaving.say(f"Stored {count} ({show_bytes(sum(sizes))})")

    def _put(self, patient: Patience, file: Found, owner: anchored.Owner | None) -> Left:
        with _opened(file.root, file.name, owner) as stream:
            is_program = bool(os.fstat(stream.fileno()).st_mode & stat.S_IXUSR)
            head = stream.read(rules.HEAD_BYTES)
            stream.seek(0)
            upload = self._ledger.begin(stream)
            try:
                stored = patient(upload.go_on)  # after an outage, from where it was
            except BaseException:
                upload.give_up()
                raise
        kind = rules.type_of(file.name, head)
        return Left(file.name, kind, stored.id, stored.size, is_program)


class Patience:
    """Repeats calls while the storage or the database is away, until the attempt must end."""

    def __init__(self, ledger: ArtifactLedger, attempt: Attempt, say: Say = lambda _: None) -> None:
        self._ledger = ledger
        self._attempt = attempt
        self._say = say

    def __call__(self, call: Callable[[], T]) -> T:
        """Its answer. Raises Stopped, or StorageAway in the end."""
        pause_s, since = SHORTEST_S, time.monotonic()
        while self._attempt.stop.reason is None:
            try:
                return call()
            except StorageAway as error:
                if time.monotonic() - since > self._ledger.limits().patience_s:
                    raise
                if pause_s == SHORTEST_S:
                    self._say(f"Waiting for the storage of artifacts: {error}")
            except OUTAGES as error:
                log.warning("waiting for the database (%s)", type(error).__name__)
            finally:
                self._ledger.released()
            self._attempt.stop.wait(pause_s)
            pause_s = min(LONGEST_S, pause_s * 2)
        raise Stopped


def _failed(outcome: StepOutcome, why: str, *, is_final: bool = False) -> StepOutcome:
    text = f"The artifacts could not be stored: {why}"
    if outcome.verdict is not Verdict.SUCCEEDED:
        return replace(outcome, error=f"{outcome.error or ''}\n{text}".strip())
    return StepOutcome(Verdict.FAILED, outcome.exit_code, text, may_retry=not is_final)


def stopped(attempt: Attempt, outcome: StepOutcome) -> StepOutcome:
    """The attempt has to end before what it left is stored: then its success does not count."""
    if outcome.verdict is not Verdict.SUCCEEDED:
        return outcome
    if attempt.stop.reason == "cancel":
        return StepOutcome(Verdict.CANCELLED, outcome.exit_code, "Job cancelled")
    why = attempt.stop.text or "the worker had to stop before the artifacts were stored"
    is_handed_back = attempt.stop.reason == "drain" and not attempt.stop.text
    return StepOutcome(Verdict.LOST, outcome.exit_code, why, is_handed_back=is_handed_back)


def _refuse(found: Sequence[Found], limits: Limits, secrets: Sequence[str]) -> None:
    """Raises AuthorError for a file that may not be kept."""
    for file in found:
        objection = rules.find_objection(file.name)
        if objection is not None:
            raise AuthorError(f"the name {file.name[:100]!r} {objection}")
        if any(secret in file.name for secret in secrets):
            raise AuthorError("the name of a file holds a secret value")
        if file.size > limits.file_bytes:
            raise AuthorError(
                f"{file.name!r} has {show_bytes(file.size)}, and a file may have"
                f" {show_bytes(limits.file_bytes)} (`artifacts.file_mb`)"
            )
    names = sorted(file.name for file in found)
    twice = next((one for one, other in pairwise(names) if one == other), None)
    if twice is not None:
        raise AuthorError(f"{twice!r} is both in ARTIFACTS_DIR and named by `paths`")


def _find(leaving: Leaving, wanted: Wanted, left: Path) -> list[Found]:
    """What is in ARTIFACTS_DIR, and what matches the globs below the working directory."""
    try:
        with anchored.folder(left) as fd:
            found = [Found(left, *file) for file in _walk(fd, leaving.owner, leaving.say)]
    except FileNotFoundError:
        found = []
    named: dict[str, Found] = {}
    if (work := leaving.work) is None:
        return found
    for glob in wanted.paths:
        more = {file.name: file for file in _matching(glob, work, leaving.owner)}
        if not more:
            leaving.say(f"Warning: no file matches `{glob}` of `artifacts.paths`")
        named |= more
    return [*found, *named.values()]


def _matching(glob: str, work: Path, owner: anchored.Owner | None) -> Iterator[Found]:
    start, matches = globs.folder_of(glob), globs.matcher([glob])
    with ExitStack() as opened:
        try:
            fd = opened.enter_context(anchored.folder(work))
            for part in filter(None, start.split("/")):
                fd = opened.enter_context(anchored.folder(part, fd))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return
            raise
        prefix = f"{start}/" if start else ""
        for name, size in _walk(fd, owner, lambda _: None, prefix):
            if matches(name):
                yield Found(work, name, size)


def _walk(
    fd: int, owner: anchored.Owner | None, say: Say, prefix: str = "", depth: int = 0
) -> Iterator[tuple[str, int]]:
    """(name, size) of the regular files below a directory, in order."""
    if depth >= anchored.DEEPEST:
        raise AuthorError(f"{prefix[:100]!r} lies more than {anchored.DEEPEST} directories deep")
    with os.scandir(fd) as entries:
        names = sorted(entries, key=lambda entry: entry.name)
    for entry in names:
        name, shown = entry.name, prefix + entry.name
        if entry.is_dir(follow_symlinks=False):
            with anchored.folder(name, fd) as inner:
                yield from _walk(inner, owner, say, f"{shown}/", depth + 1)
            continue
        found = entry.stat(follow_symlinks=False)
        if not stat.S_ISREG(found.st_mode):
            say(f"Warning: the artifact {shown!r} is no regular file, and is left out")
        else:
            yield shown, found.st_size


def _opened(root: Path, name: str, owner: anchored.Owner | None) -> BinaryIO:
    """A file for reading, without following a link on the way."""
    *folders, last = name.split("/")
    with ExitStack() as opened:
        fd = opened.enter_context(anchored.folder(root))
        for part in folders:
            fd = opened.enter_context(anchored.folder(part, fd))
        file = os.open(last, anchored.FILE, dir_fd=fd)
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or (owner is not None and found.st_uid != owner[0]):
        os.close(file)
        raise AuthorError(f"{name!r} belongs to another user, or was replaced while it was read")
    return os.fdopen(file, "rb")


def _entered(fd: int, name: str, owner: anchored.Owner | None) -> anchored.folder:
    _below(fd, name, owner)
    return anchored.folder(name, fd)


def _below(fd: int, name: str, owner: anchored.Owner | None) -> None:
    """Make a directory for the step, if it is not there yet."""
    try:
        anchored.give(anchored.make_folder(name, fd, 0o755), owner)
    except FileExistsError:
        return


def _copy(source: IO[bytes], fd: int, name: str, owner: anchored.Owner | None, mode: int) -> None:
    """Write a whole file; what an interrupted call left is replaced."""
    with suppress(FileNotFoundError):
        os.unlink(name, dir_fd=fd)
    made = os.open(name, anchored.FRESH, mode, dir_fd=fd)
    try:
        while piece := source.read(1 << 20):
            anchored.write_all(made, piece)
        if owner is not None:
            os.fchown(made, *owner)
    finally:
        os.close(made)
