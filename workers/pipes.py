"""The command `stroem-step`: what a step asks of its worker while it runs.

A directory of the attempt holds the command, a shell script, and named pipes: a process of the step
takes a turn N from `free`, opens `N.out` for its answer and writes its question into `N.in`. So no
credential is in the step, and a container needs the directory only for reading.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import select
import stat
import sys
import termios
import threading
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import BytesIO
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
SLOTS = 4  # answers are found one after the other, and read at the pace of each
NAME_BYTES = 8  # of a turn: the command reads as many
LOOK_S = 1.0
QUESTION_S, ANSWER_S = 30.0, 600.0  # who stands still for longer has lost its turn
PROGRAM = Path(__file__).with_name(f"{HELPER}.sh")
_PIECE = 1 << 16
_SAFELY = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_READ, _WRITE = os.O_RDONLY | _SAFELY, os.O_WRONLY | _SAFELY


@dataclass(slots=True)
class _Turn:
    """Two pipes for one question and its answer, under a name that is never given again: whoever
    comes late finds nothing there, instead of the answer to another."""

    name: str
    asking: int
    answering: int
    moved_at: float | None = None  # taken, or gone on with, the last time
    asked: bytearray = field(default_factory=bytearray)
    pieces: Generator[bytes] | None = None  # of the answer
    rest: memoryview = field(default_factory=lambda: memoryview(b""))

    @property
    def waits_for(self) -> int:
        return self.asking if self.pieces is None else self.answering

    def has_stood_still(self, now: float) -> bool:
        longest = QUESTION_S if self.pieces is None else ANSWER_S
        return self.moved_at is not None and now - self.moved_at > longest

    def close(self) -> None:
        if self.pieces is not None:
            self.pieces.close()
        os.close(self.asking)
        os.close(self.answering)


class Helper:
    """Answers the questions of one attempt, in a thread of its own, until it is closed.

    A step may kill and stop its callers, and on some hosts remove, replace and fill the pipes. So
    the thread looks after them: what is broken or lost is made anew, and who waits there is told.
    """

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
        self._made: dict[str, tuple[int, ...]] = {}
        self._names = itertools.count()
        self._turns: dict[int, _Turn] = {}  # by the descriptor that is waited for
        self._offered: list[_Turn] = []  # in the order in which they are taken
        self._free: int | None = None
        self._has_warned = False
        self._is_closed = False
        self._thread = threading.Thread(target=self._serve, name="stroem-helper", daemon=True)
        try:
            self._place_program()
            self._make_anew()
            self._restock()
            self._thread.start()
        except BaseException:
            os.close(self._waker)
            self._release()
            raise

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
        self._release()

    def _release(self) -> None:
        for turn in self._turns.values():
            turn.close()
        for fd in (self._free, self._wake, self._fd):
            if fd is not None:
                os.close(fd)

    def _place_program(self) -> None:
        program = os.open(HELPER, anchored.FRESH, 0o700, dir_fd=self._fd)
        try:
            anchored.write_all(program, PROGRAM.read_bytes())
            os.fchmod(program, 0o755)
        finally:
            os.close(program)

    def _make_anew(self) -> None:
        """The pipe `free`, which has its name only while this process holds it."""
        os.fchmod(self._fd, 0o755)
        name = f"free.{next(self._names)}"
        self._free = self._make(name, os.O_RDWR | _SAFELY)
        os.rename(name, "free", src_dir_fd=self._fd, dst_dir_fd=self._fd)
        self._made["free"] = self._made.pop(name)

    def _restock(self) -> None:
        while self._free is not None and len(self._turns) < SLOTS:
            name = f"{next(self._names) % 10**NAME_BYTES:0{NAME_BYTES}}"
            turn = self._open(name)
            self._turns[turn.asking] = turn
            self._poll.register(turn.asking, select.POLLIN)
            os.write(self._free, name.encode())
            self._offered.append(turn)

    def _open(self, name: str) -> _Turn:
        asking = self._make(f"{name}.in", _READ)
        try:
            reading = self._make(f"{name}.out", _READ)
            try:
                answering = os.open(f"{name}.out", _WRITE, dir_fd=self._fd)
            finally:
                os.close(reading)  # it is enough that somebody writes: who opens it does not wait
        except OSError:
            os.close(asking)
            self._remove_pair(name)
            raise
        return _Turn(name, asking, answering)

    def _make(self, name: str, flags: int) -> int:
        """A pipe for every user that can reach it: the directory above is the step's alone."""
        os.mkfifo(name, 0o600, dir_fd=self._fd)
        fd = os.open(name, flags, dir_fd=self._fd)
        try:
            os.fchmod(fd, 0o666)  # the umask has cut the mode above
            self._made[name] = _identify(os.fstat(fd))
        except OSError:
            os.close(fd)
            raise
        return fd

    def _remove_pair(self, name: str) -> None:
        for end in ("in", "out"):
            with suppress(OSError):
                self._remove(f"{name}.{end}")

    def _remove(self, name: str) -> None:
        """Take a name away. Who waits in a pipe that a step has put there goes on."""
        self._made.pop(name, None)
        with suppress(FileNotFoundError):
            if stat.S_ISFIFO(os.lstat(name, dir_fd=self._fd).st_mode):
                with suppress(OSError):
                    os.close(os.open(name, os.O_RDWR | _SAFELY, dir_fd=self._fd))
            try:
                os.unlink(name, dir_fd=self._fd)
            except (IsADirectoryError, PermissionError):  # the directory goes with the step's
                aside = f"{name}.{next(self._names)}"
                os.rename(name, aside, src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def _serve(self) -> None:
        look_at = 0.0
        while True:
            for fd, _ in self._poll.poll(LOOK_S * 1000):
                if fd == self._wake:
                    return
                self._go_on(self._turns[fd])
            try:
                if time.monotonic() >= look_at:
                    look_at = time.monotonic() + LOOK_S
                    self._look()
                self._restock()
            except OSError as error:  # no room on the disk, no directory: tried again
                self._warn(str(error))
                self._withdraw()

    def _look(self) -> None:
        """Whether all is as it was made, and which turns are lost."""
        if self._free is None or not self._is_sound(self._free):
            if self._free is not None:
                self._warn("the step has changed its pipes; they are made anew")
            self._withdraw()
            self._make_anew()
            return
        now = time.monotonic()
        count = len(self._offered) - _count_waiting(self._free) // NAME_BYTES
        for turn in self._offered[:count]:
            turn.moved_at = turn.moved_at or now
        del self._offered[:count]
        still = [turn for turn in self._turns.values() if turn.has_stood_still(now)]
        ready = {fd for fd, _ in self._poll.poll(0)} if still else set()
        for turn in still:
            if turn.waits_for not in ready:  # else it was this thread that stood still
                self._end(turn)

    def _is_sound(self, free: int) -> bool:
        waiting = _count_waiting(free)
        if waiting % NAME_BYTES or waiting > len(self._offered) * NAME_BYTES:
            return False
        try:
            found = {name: os.lstat(name, dir_fd=self._fd) for name in self._made}
        except OSError:
            return False
        return {name: _identify(one) for name, one in found.items()} == self._made

    def _withdraw(self) -> None:
        """Offer nothing, rather than let somebody wait for what does not come. Who has begun to
        ask gets an answer all the same."""
        if self._free is not None:
            os.close(self._free)
            self._free = None
        self._offered.clear()
        with suppress(OSError):
            os.fchmod(self._fd, 0o755)
            self._remove("free")
        for turn in list(self._turns.values()):
            if turn.pieces is None and not turn.asked:
                self._end(turn)

    def _warn(self, text: str) -> None:
        """Once: a step could go on for ever."""
        if not self._has_warned:
            self._has_warned = True
            log.warning("%s: %s", HELPER, text, extra=fields(self._attempt.claim))

    def _go_on(self, turn: _Turn) -> None:
        """Read on, or write on. Others do not wait for one that stands still meanwhile."""
        turn.moved_at = time.monotonic()
        try:
            is_over = self._read(turn) if turn.pieces is None else self._write(turn)
        except BlockingIOError:
            return
        except OSError:
            is_over = True  # who asked is gone
        if is_over:
            self._end(turn)

    def _end(self, turn: _Turn) -> None:
        self._poll.unregister(turn.waits_for)
        del self._turns[turn.waits_for]
        turn.close()
        self._remove_pair(turn.name)

    def _read(self, turn: _Turn) -> bool:
        """One piece. At the end of a question, find its answer."""
        if piece := os.read(turn.asking, _PIECE):
            turn.asked += piece[: MOST_BYTES + 1 - len(turn.asked)]
            return False
        answer = self._ask(bytes(turn.asked))
        self._poll.unregister(turn.asking)
        del self._turns[turn.asking]
        turn.pieces = self._in_pieces(answer)
        self._turns[turn.answering] = turn
        self._poll.register(turn.answering, select.POLLOUT)
        return False

    def _in_pieces(self, answer: Answer) -> Generator[bytes]:
        try:
            with answer.stream or BytesIO() as stream:
                yield answer.head + answer.text
                while piece := stream.read(_PIECE):
                    yield piece
        except Exception:  # an outer edge: who asked sees that the file did not come whole
            log.exception("%s failed", HELPER, extra=fields(self._attempt.claim))

    def _write(self, turn: _Turn) -> bool:
        """One piece, as far as it is taken now; whether the answer is complete."""
        if not turn.rest:
            assert turn.pieces is not None, "it is asked first"
            turn.rest = memoryview(next(turn.pieces, b""))
            if not turn.rest:
                return True
        turn.rest = turn.rest[os.write(turn.answering, turn.rest) :]
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


def _identify(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_mode


def _count_waiting(pipe: int) -> int:
    """How many bytes are in a pipe."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


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
