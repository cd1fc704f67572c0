"""Turns the two output streams of a step into lines, for every runner.

Everything is bounded: a line, an attempt's log, its output, the tail of its stderr. Handles floods,
giant lines, NUL, invalid UTF-8 and progress bars.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from typing import Literal

from engine.orders import Limits, Line, StepOutcome, Stream, Verdict
from engine.output import PREFIXES, STATE, OutputProtocol, prefix_of
from runners.base import LineSink, explain_loss

STDERR_TAIL_BYTES = 4096
PROGRESS_INTERVAL_S = 1.0
_PREFIXES = tuple(prefix.encode() for prefix in PREFIXES)
_MARKS = (_PREFIXES[0], STATE.encode())  # one of them is in every protocol line
_LONGEST_PREFIX = max(map(len, _PREFIXES))
# a byte order mark and colours, which no reader of the log sees
_UNSEEN = re.compile(rb"(?:\xef\xbb\xbf|\x1b\[[0-9;]*[A-Za-z])+")
_FIRST = frozenset((b"O", b"S", b"G", b"\xef", b"\x1b"))  # of them, and of what hides them
_CHARACTER_BYTES = 4
# the prefix and blanks around the value do not count against the output's limit
_PREFIX_SLACK = 64


def describe_exit(exit_code: int, stderr_tail: str) -> str:
    """The `error` of a step whose process exited with a code other than 0."""
    return (
        f"Exit code: {exit_code}\nStderr: {stderr_tail}"
        if stderr_tail
        else f"Exit code: {exit_code}"
    )


def _prefix_of(raw: bytes) -> str:
    return prefix_of(raw[:_LONGEST_PREFIX].decode("ascii", "replace"))


def repair(raw: bytes) -> str:
    """`raw` as text that every database column can hold."""
    return raw.decode("utf-8", "replace").replace("\0", "\ufffd")


class LineFeed:
    """Turns the bytes of one attempt into log lines, its output and the tail of its stderr. Not
    thread-safe.

    A cut never splits one of `secrets`, so that masking still recognises them later.
    """

    def __init__(
        self,
        sink: LineSink,
        limits: Limits,
        secrets: Iterable[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.output = OutputProtocol(limits.output_bytes)
        self.ended_at: float | None = None  # for the outcome
        self._sink = sink
        self._clock = clock
        self._limits = limits
        self._secrets = tuple(secret.encode("utf-8", "replace") for secret in secrets if secret)
        self._longest_secret = max(map(len, self._secrets), default=0)
        self._partial: dict[Stream, _Partial] = {"stdout": _Partial(), "stderr": _Partial()}
        self._stderr = b""
        self._stderr_bytes = 0
        self._used_bytes = 0
        self._dropped_bytes = 0
        self._is_full = False

    def feed(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        """Take the next bytes of `stream`."""
        if not data:
            return
        at = self._clock()
        if stream == "stderr":
            self._stderr_bytes += len(data)
            self._stderr = (self._stderr + data)[-(STDERR_TAIL_BYTES + self._longest_secret) :]
        partial = self._partial[stream]
        if self._is_full and self._skip(stream, partial, data):
            return
        first, *rest = data.split(b"\n")
        self._extend(stream, partial, first, at)
        if not rest:
            return
        self._end_line(stream, partial, at)
        for raw in rest[:-1]:
            self._tell(stream, raw, 0, raw.startswith(_PREFIXES), at)
        self._extend(stream, partial, rest[-1], at)

    def say(self, text: str) -> None:
        """Add a server line (a warning, progress); it does not count against the step's log."""
        self._sink(Line(self._clock(), "server", text))

    def flush(self) -> None:
        """Emit lines without a newline, once both streams have ended; a last line may be the
        output."""
        at = self._clock()
        for stream, partial in self._partial.items():
            if partial.size:
                self._end_line(stream, partial, at)

    def close(self) -> None:
        """Flush, and say how much was left out. Call once."""
        self.flush()
        if self._dropped_bytes:
            self.say(
                f"[truncated {self._dropped_bytes} bytes: the log of one attempt holds"
                f" {self._limits.log_bytes} bytes]"
            )

    @property
    def stderr_tail(self) -> str:
        """The last STDERR_TAIL_BYTES of stderr, from the start of a line if possible."""
        start = 0
        if self._stderr_bytes > STDERR_TAIL_BYTES:
            start = max(len(self._stderr) - STDERR_TAIL_BYTES, 0)
            newline = self._stderr.rstrip(b"\n").find(b"\n", start)
            start = (
                newline + 1
                if newline >= 0
                else self._avoid_secrets(self._stderr, start, forward=True)
            )
        return repair(self._stderr[start:]).strip("\r\n")

    def outcome_of(self, exit_code: int) -> StepOutcome:
        """The outcome of an attempt whose process exited by itself."""
        self.flush()
        if self.output.error is not None:
            return self.outcome(Verdict.FAILED, exit_code, self.output.error)
        if exit_code == 0:
            return self.outcome(Verdict.SUCCEEDED, 0)
        return self.outcome(Verdict.FAILED, exit_code, describe_exit(exit_code, self.stderr_tail))

    def outcome_of_stop(self, cause: str | None, exit_code: int | None = None) -> StepOutcome:
        """The outcome of a step that was ended: for `timeout`, or for its stop signal's reason."""
        match cause:
            case "cancel":
                return self.outcome(Verdict.CANCELLED, exit_code, "Job cancelled")
            case "timeout":
                error = f"Step timed out after {self._limits.timeout_s:g}s"
                return self.outcome(Verdict.TIMED_OUT, exit_code, error)
            case reason:
                return self.outcome(Verdict.LOST, exit_code, explain_loss(reason))

    def outcome(
        self, verdict: Verdict, exit_code: int | None = None, error: str | None = None
    ) -> StepOutcome:
        """An outcome with the step's output and state so far."""
        self.flush()
        return StepOutcome(
            verdict, exit_code, error, self.output.value, self.output.has_output,
            states=self.output.states or None, ended_at=self.ended_at,
        )  # fmt: skip

    def _extend(self, stream: Stream, partial: _Partial, piece: bytes, at: float) -> None:
        if not piece:
            return
        progress = partial.extend(piece, stream == "stdout", self._limits, self._longest_secret, at)
        if progress is not None:
            self._tell(stream, progress, 0, False, at)

    def _end_line(self, stream: Stream, partial: _Partial, at: float) -> None:
        kept, is_output = bytes(partial.kept), partial.is_output
        dropped = partial.dropped - min(partial.returns, partial.dropped)
        partial.reset()
        self._tell(stream, kept, dropped, is_output, at)

    def _tell(self, stream: Stream, raw: bytes, dropped: int, is_output: bool, at: float) -> None:
        """Emit one line, of which `dropped` bytes were not kept."""
        is_misplaced = is_output and stream == "stderr"
        is_output = is_output and not is_misplaced
        size = len(raw) + dropped + 1
        shown = raw.rstrip(b"\r") if b"\r" in raw else raw
        if b"\r" in shown and not is_output:
            shown = shown[shown.rindex(b"\r") + 1 :]
        text = (
            repair(shown)
            if len(shown) <= self._limits.line_bytes and not dropped
            else self._cut(shown, dropped)
        )
        cost = (len(text) if text.isascii() else len(text.encode())) + 1
        if self._is_full or self._used_bytes + cost > self._limits.log_bytes:
            self._is_full = True
            self._dropped_bytes += size
        else:
            self._used_bytes += cost
            self._sink(Line(at, stream, text))
        if is_output:
            self._note_output(raw, dropped)
        elif is_misplaced and (warning := self.output.misplace(_prefix_of(raw))) is not None:
            self.say(warning)
        elif not is_misplaced and stream == "stdout" and shown[:1] in _FIRST:
            self._note_hidden(shown)

    def _note_output(self, raw: bytes, dropped: int) -> None:
        """Take a protocol line."""
        if dropped:
            self.output.refuse(_prefix_of(raw))
            return
        text = repair(raw)
        warning = self.output.feed(text)
        if warning is None and "\ufffd" in text and text.encode() != raw:
            warning = self.output.repaired(_prefix_of(raw))
        if warning is not None:
            self.say(warning)

    def _note_hidden(self, shown: bytes) -> None:
        """Say once that what looks like a protocol line in the log is none."""
        found = _UNSEEN.match(shown)
        seen = shown[found.end() :] if found else shown
        if seen.startswith(_PREFIXES):
            warning = self.output.hide(_prefix_of(seen))
            if warning is not None:
                self.say(warning)

    def _cut(self, raw: bytes, dropped: int) -> str:
        end = min(len(raw), self._limits.line_bytes)
        while (
            0 < end < len(raw)
            and raw[end] & 0xC0 == 0x80
            and end > self._limits.line_bytes - _CHARACTER_BYTES
        ):
            end -= 1  # not within a character
        end = self._avoid_secrets(raw, end, forward=False)
        return f"{repair(raw[:end])} ... [line cut, {len(raw) - end + dropped} more bytes]"

    def _avoid_secrets(self, raw: bytes, at: int, *, forward: bool) -> int:
        """`at`, moved out of any secret that a cut there would split."""
        moved = True
        while moved:
            moved = False
            for secret in self._secrets:
                found = raw.find(secret, max(at - len(secret) + 1, 0), at + len(secret) - 1)
                if 0 <= found < at:
                    at, moved = (found + len(secret) if forward else found), True
        return at

    def _skip(self, stream: Stream, partial: _Partial, data: bytes) -> bool:
        """Once the log is full: drop `data` without splitting it, unless it may hold an output
        line."""
        if stream == "stdout":
            if partial.may_be_output or any(mark in data for mark in _MARKS):
                return False
            newline = data.rfind(b"\n")
            tail = data[newline + 1 :]
            if newline >= 0 or not partial.size:
                self._dropped_bytes += partial.size
                partial.reset()
                partial.extend(tail, True, self._limits, 0, 0.0)
                data = data[: newline + 1]
        self._dropped_bytes += len(data)
        return True


class _Partial:
    """The unfinished line of a stream. Keeps only what can be shown or read as output."""

    __slots__ = ("dropped", "head", "kept", "returns", "since")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.kept = bytearray()
        self.dropped = 0
        self.returns = 0  # carriage returns at its end so far, whether kept or dropped
        self.head = b""  # its first bytes as written: they decide whether it is an output line
        self.since = 0.0  # when it began, or when its progress was last shown

    @property
    def size(self) -> int:
        return len(self.kept) + self.dropped

    @property
    def is_output(self) -> bool:
        return self.head.startswith(_PREFIXES)

    @property
    def may_be_output(self) -> bool:
        """Whether it is a protocol line, or may become one."""
        head = self.head
        return bool(head) and (
            self.is_output or any(prefix.startswith(head) for prefix in _PREFIXES)
        )

    def extend(
        self, piece: bytes, may_be_output: bool, limits: Limits, slack: int, at: float
    ) -> bytes | None:
        """Append `piece`; returns what a progress bar shows now, at most once per
        PROGRESS_INTERVAL_S."""
        if not self.head:
            self.since = at
        if len(self.head) < _LONGEST_PREFIX:
            self.head += piece[: _LONGEST_PREFIX - len(self.head)]
        is_output = may_be_output and self.is_output
        shown = None
        if not is_output and (self.returns or b"\r" in piece):
            piece, shown = self._overwrite(piece, at)
        room = (
            limits.output_bytes + _PREFIX_SLACK
            if is_output
            else limits.line_bytes + slack + _CHARACTER_BYTES
        ) - len(self.kept)
        returns = len(piece) - len(piece.rstrip(b"\r"))
        self.returns = self.returns + returns if returns == len(piece) else returns
        self.kept += piece[: max(room, 0)]
        self.dropped += max(len(piece) - max(room, 0), 0)
        return shown

    def _overwrite(self, piece: bytes, at: float) -> tuple[bytes, bytes | None]:
        """Drop what carriage returns overwrite; returns the rest, and what was visible before."""
        text = bytes(self.kept) + b"\r" * min(self.returns, self.dropped) + piece
        body = text.rstrip(b"\r")
        last = body.rfind(b"\r")
        if last < 0:
            return piece, None
        self.kept.clear()
        self.dropped = self.returns = 0
        before = body[:last].rstrip(b"\r")
        seen = before[before.rfind(b"\r") + 1 :]
        if not seen or at - self.since < PROGRESS_INTERVAL_S:
            return text[last + 1 :], None
        self.since = at
        return text[last + 1 :], seen
