"""The command `stroem-step`: what a step asks of its worker while it runs.

A directory of the attempt holds the command, a shell script, and named pipes: a process of the step
takes a slot from `free`, writes its question into `N.in` and reads the answer from `N.out`. So no
credential is in the step, and a container needs the directory only for reading.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from apps.artifacts.ledger import MOST_BYTES, Answer, Questions, Refusal, refused, words_of
from apps.jobs.ledger import Material
from engine.errors import StroemError
from engine.orders import HELPER, HelperFolder, StepOutcome, Verdict
from runners import anchored
from workers.artifacts import Patience, Stopped, stopped
from workers.attempts import Attempt, fields
from workers.door import ArtifactLedger, Ledger
from workers.rendering import Rendered
from workers.trees import Scratch

log = logging.getLogger("stroem.worker")
FOLDER = "helper"
SLOTS = "1234"  # questions are answered one after the other
PROGRAM = Path(__file__).with_name(f"{HELPER}.sh")
WAITS_S = 5.0  # for whoever asked to open its answer
_PIECE = 1 << 16
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class _Gone(Exception):
    """Nobody reads the answer any more, or the step has ended."""


@dataclass(slots=True)
class _Slot:
    name: str
    fd: int
    asked: bytearray = field(default_factory=bytearray)


class Helper:
    """Answers the questions of one attempt, in a thread of its own, until it is closed."""

    def __init__(
        self, scratch: Path, attempt: Attempt, questions: Questions, *, is_needed: bool = True
    ) -> None:
        """Make the directory and begin to listen. Raises OSError."""
        self.folder = HelperFolder(scratch / FOLDER, is_needed)
        self._attempt = attempt
        self._questions = questions
        with anchored.folder(scratch) as above:
            self._fd = anchored.make_folder(FOLDER, above, 0o755)
        self._inodes: dict[str, int] = {}
        self._wake, self._waker = os.pipe()
        self._slots = self._furnish()
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name="stroem-helper", daemon=True)
        self._thread.start()

    def settle(self, outcome: StepOutcome) -> StepOutcome:
        """Stop listening; the outcome with what the step has set."""
        self.close()
        return self._questions.told(outcome)

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        os.close(self._waker)
        self._thread.join()
        for slot in self._slots.values():
            os.close(slot.fd)
        for fd in (self._free, self._wake, self._fd):
            os.close(fd)

    def _furnish(self) -> dict[int, _Slot]:
        program = os.open(HELPER, anchored.FRESH, 0o700, dir_fd=self._fd)
        try:
            anchored.write_all(program, PROGRAM.read_bytes())
            os.fchmod(program, 0o755)
        finally:
            os.close(program)
        os.fchmod(self._fd, 0o755)
        self._make("free")
        self._free = self._open("free", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        slots = []
        for name in SLOTS:
            self._make(f"{name}.in")
            self._make(f"{name}.out")
            slots.append(_Slot(name, self._open(f"{name}.in", _READ)))
        os.write(self._free, SLOTS.encode())
        return {slot.fd: slot for slot in slots}

    def _make(self, name: str) -> None:
        """A pipe for every user that can reach it: the directory above is the step's alone."""
        os.mkfifo(name, 0o600, dir_fd=self._fd)
        os.chmod(name, 0o666, dir_fd=self._fd)  # noqa: S103  (the umask has cut the mode above)
        self._inodes[name] = os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_ino

    def _open(self, name: str, flags: int) -> int:
        """The pipe that was made, and nothing that a step has put in its place."""
        fd = os.open(name, flags, dir_fd=self._fd)
        found = os.fstat(fd)
        if not stat.S_ISFIFO(found.st_mode) or found.st_ino != self._inodes[name]:
            os.close(fd)
            raise OSError(errno.ESTALE, f"{name!r} was replaced")
        return fd

    def _serve(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        for fd in self._slots:
            poll.register(fd, select.POLLIN)
        while True:
            for fd, _ in poll.poll():
                if fd == self._wake:
                    return
                try:
                    self._hear(self._slots[fd], poll)
                except _Gone:
                    return
                except OSError as error:
                    log.warning("%s: %s", HELPER, error, extra=fields(self._attempt.claim))
                    return

    def _hear(self, slot: _Slot, poll: select.poll) -> None:
        """Read on; at the end of a question, answer it and free the slot."""
        try:
            while piece := os.read(slot.fd, _PIECE):
                slot.asked += piece[: MOST_BYTES + 1 - len(slot.asked)]
        except BlockingIOError:
            return  # more is to come
        self._renew(slot, poll)
        asked, slot.asked = bytes(slot.asked), bytearray()
        try:
            self._reply(slot.name, self._ask(asked))
            self._part(slot)
        finally:
            os.write(self._free, slot.name.encode())

    def _part(self, slot: _Slot) -> None:
        """Whoever asked may still read: the next one gets its answer from a pipe of its own."""
        os.unlink(f"{slot.name}.out", dir_fd=self._fd)
        self._make(f"{slot.name}.out")

    def _renew(self, slot: _Slot, poll: select.poll) -> None:
        """A pipe whose writer is gone reports that until it is opened anew."""
        poll.unregister(slot.fd)
        fresh = self._open(f"{slot.name}.in", _READ)
        del self._slots[slot.fd]
        os.close(slot.fd)
        slot.fd = fresh
        self._slots[fresh] = slot
        poll.register(fresh, select.POLLIN)

    def _ask(self, asked: bytes) -> Answer:
        try:
            return self._questions.answer(words_of(asked), self._has_ended)
        except Refusal as refusal:
            return refused(refusal)
        except Exception as error:  # an outer edge: the step must not wait for an answer in vain
            log.exception("%s failed", HELPER, extra=fields(self._attempt.claim))
            text = f"{HELPER}: the worker failed ({type(error).__name__}); see its log\n"
            return Answer(69, text.encode())

    def _has_ended(self) -> bool:
        return self._attempt.stop.reason is not None or bool(
            select.select([self._wake], [], [], 0)[0]
        )

    def _reply(self, name: str, answer: Answer) -> None:
        """Write the answer as fast as it is read. Raises _Gone if the step ends meanwhile."""
        try:
            fd = self._reader(f"{name}.out")
            if fd is None:
                return
            try:
                self._write(fd, f"{answer.code} {answer.size}\n".encode())
                self._write(fd, answer.text)
                while answer.stream is not None and (piece := answer.stream.read(_PIECE)):
                    self._write(fd, piece)
            finally:
                os.close(fd)
        except BrokenPipeError:
            return
        finally:
            if answer.stream is not None:
                answer.stream.close()

    def _reader(self, name: str) -> int | None:
        """The pipe once somebody reads from it; None if nobody does."""
        until = time.monotonic() + WAITS_S
        while time.monotonic() < until:
            try:
                return self._open(name, _WRITE)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
            if select.select([self._wake], [], [], 0.005)[0]:
                raise _Gone
        return None

    def _write(self, fd: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(fd, view) :]
            except BlockingIOError:
                if self._wake in select.select([self._wake], [fd], [])[0]:
                    raise _Gone from None


class PodHelper:
    """The same for a pod: its container beside the step asks the server, and what the step has set
    is read in the end."""

    def __init__(
        self,
        scratch: Path,
        attempt: Attempt,
        questions: Questions,
        patient: Patience,
        artifacts: ArtifactLedger,
        *,
        is_needed: bool,
    ) -> None:
        self.folder = HelperFolder(scratch / FOLDER, is_needed)
        self._attempt, self._questions = attempt, questions
        self._patient, self._artifacts = patient, artifacts
        with anchored.folder(scratch) as above:
            inner = anchored.make_folder(FOLDER, above, 0o755)
        try:
            anchored.write(HELPER, PROGRAM.read_bytes(), inner, None)
        finally:
            os.close(inner)

    def settle(self, outcome: StepOutcome) -> StepOutcome:
        if outcome.verdict is not Verdict.SUCCEEDED:
            return outcome
        try:
            noted = self._patient(lambda: self._artifacts.noted(self._attempt.claim))
        except Stopped:
            return stopped(self._attempt, outcome)
        except StroemError as error:
            return replace(outcome, verdict=Verdict.FAILED, error=str(error))
        if noted is not None:
            self._questions.recall(noted)
        return self._questions.told(outcome)

    def close(self) -> None:
        """Nothing listens here."""


class Helpers:
    """Opens a helper for each attempt whose script may call it."""

    def __init__(self, ledger: Ledger, artifacts: ArtifactLedger) -> None:
        self._ledger = ledger
        self._artifacts = artifacts

    def open(
        self, attempt: Attempt, material: Material, rendered: Rendered, scratch: Scratch
    ) -> Helper | PodHelper | None:
        """None where there is none. Raises one of OUTAGES."""
        action, is_needed = rendered.action, rendered.calls_helper
        if action.type != "script":
            return None
        claim, masks, emits = attempt.claim, rendered.masks, material.emits
        questions = Questions(claim, self._ledger, self._artifacts, masks=masks, emits=emits)
        if action.runner == "pod":
            self._artifacts.may_ask(claim, masks, emits=emits)
            return PodHelper(
                scratch.path,
                attempt,
                questions,
                Patience(self._artifacts, attempt),
                self._artifacts,
                is_needed=is_needed,
            )
        return Helper(scratch.path, attempt, questions, is_needed=is_needed)
