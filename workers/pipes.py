"""The command `stroem-step`: what a step asks of its worker while it runs.

A directory of the attempt holds the command, a shell script, and named pipes: a process of the step
takes a slot from `free`, opens `N.out` for its answer and writes its question into `N.in`. So no
credential is in the step, and a container needs the directory only for reading.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import stat
import threading
from collections.abc import Generator
from contextlib import suppress
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
SLOTS = "1234"  # answers are found one after the other, and read at the pace of each
PROGRAM = Path(__file__).with_name(f"{HELPER}.sh")
_PIECE = 1 << 16
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class _Slot:
    """Two pipes, for one turn. Who asks opens both before its question ends, so the answer cannot
    reach another: for the next turn they are made anew."""

    name: str
    asking: int
    answering: int
    asked: bytearray = field(default_factory=bytearray)
    pieces: Generator[bytes] | None = None  # of the answer
    rest: memoryview = field(default_factory=lambda: memoryview(b""))

    def close(self) -> None:
        if self.pieces is not None:
            self.pieces.close()
        os.close(self.asking)
        os.close(self.answering)


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
        self._wake, self._waker = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._inodes: dict[str, int] = {}
        self._slots: dict[int, _Slot] = {}  # by the descriptor that is waited for
        self._furnish()
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
            slot.close()
        for fd in (self._free, self._wake, self._fd):
            os.close(fd)

    def _furnish(self) -> None:
        program = os.open(HELPER, anchored.FRESH, 0o700, dir_fd=self._fd)
        try:
            anchored.write_all(program, PROGRAM.read_bytes())
            os.fchmod(program, 0o755)
        finally:
            os.close(program)
        os.fchmod(self._fd, 0o755)
        self._make("free")
        self._free = self._open("free", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        for name in SLOTS:
            self._offer(name)

    def _offer(self, name: str) -> None:
        """Two new pipes for the next one who takes this name."""
        asking = self._renew(f"{name}.in")
        reading = self._renew(f"{name}.out")
        answering = self._open(f"{name}.out", _WRITE)
        os.close(reading)  # it is enough that somebody writes: who opens it does not wait
        self._slots[asking] = _Slot(name, asking, answering)
        self._poll.register(asking, select.POLLIN)
        os.write(self._free, name.encode())

    def _renew(self, name: str) -> int:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)
        self._make(name)
        return self._open(name, _READ)

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
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._wake:
                    return
                try:
                    self._go_on(self._slots[fd])
                except OSError as error:
                    log.warning("%s: %s", HELPER, error, extra=fields(self._attempt.claim))
                    return

    def _go_on(self, slot: _Slot) -> None:
        """Read on, or write on. Others do not wait for one that stands still meanwhile."""
        try:
            if slot.pieces is None:
                self._read(slot)
                return
            if not self._write(slot):
                return
        except BlockingIOError:
            return
        except BrokenPipeError:
            pass  # who asked is gone
        self._poll.unregister(slot.answering)
        del self._slots[slot.answering]
        slot.close()
        self._offer(slot.name)

    def _read(self, slot: _Slot) -> None:
        """At the end of a question, find its answer."""
        while piece := os.read(slot.asking, _PIECE):
            slot.asked += piece[: MOST_BYTES + 1 - len(slot.asked)]
        slot.pieces = self._in_pieces(self._ask(bytes(slot.asked)))
        self._poll.unregister(slot.asking)
        self._slots[slot.answering] = self._slots.pop(slot.asking)
        self._poll.register(slot.answering, select.POLLOUT)

    def _in_pieces(self, answer: Answer) -> Generator[bytes]:
        try:
            yield answer.head + answer.text
            while answer.stream is not None and (piece := answer.stream.read(_PIECE)):
                yield piece
        except Exception:  # an outer edge: who asked sees that the file did not come whole
            log.exception("%s failed", HELPER, extra=fields(self._attempt.claim))
        finally:
            if answer.stream is not None:
                answer.stream.close()

    def _write(self, slot: _Slot) -> bool:
        """One piece, as far as it is taken now; whether the answer is complete."""
        if not slot.rest:
            assert slot.pieces is not None, "it is asked first"
            slot.rest = memoryview(next(slot.pieces, b""))
            if not slot.rest:
                return True
        slot.rest = slot.rest[os.write(slot.answering, slot.rest) :]
        return False

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
