"""The feed of a consumer: its OUTPUT: lines are events; each is safe before the next is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from engine.events import EventSink
from engine.orders import StepOrder, StepOutcome, Stream, Verdict
from engine.output import PREFIX
from runners.base import LineSink
from runners.lines import LineFeed, repair

_PREFIX = PREFIX.encode()
NO_REPLIES = (
    "An event asks for a reply on standard input, which steps in pods do not get: remove"
    ' "reply" from it, or let the step run locally or in a container of Docker'
)
NOT_READ = (
    "the script asks for replies to its events and does not read them from its standard input:"
    ' read one line for each, or remove "reply"'
)


def feed_of(
    order: StepOrder, lines: LineSink, answer: Callable[[str], None] | None = None
) -> LineFeed:
    """The feed of an order. `answer` writes a line to the script's standard input."""
    if order.events is None:
        return LineFeed(lines, order.limits, order.secrets)
    return EventFeed(order, lines, order.events, answer)


class EventFeed(LineFeed):
    """Hands over events, in order. Reads nothing while one is on its way: that is the pressure
    which a script feels that is too fast."""

    def __init__(
        self,
        order: StepOrder,
        lines: LineSink,
        events: EventSink,
        answer: Callable[[str], None] | None,
    ) -> None:
        super().__init__(lines, order.limits, order.secrets)
        self._events = events
        self._answer = answer
        self._is_full_said = False

    def outcome(
        self, verdict: Verdict, exit_code: int | None = None, error: str | None = None
    ) -> StepOutcome:
        """Events are no output: whoever asks for it finds none."""
        return replace(super().outcome(verdict, exit_code, error), output=None, has_output=False)

    def _tell(self, stream: Stream, raw: bytes, dropped: int, is_output: bool, at: float) -> None:
        if not is_output and raw[:1].isspace() and raw.lstrip().startswith(_PREFIX):
            is_output = True
        super()._tell(stream, raw, dropped, is_output, at)
        if self._is_full and not self._is_full_said:
            self._is_full_said = True
            self.say(
                f"The log of this attempt is full ({self._limits.log_bytes} bytes): further lines"
                " are left out; events go on"
            )

    def _note_output(self, raw: bytes, dropped: int) -> None:
        if not raw.lstrip().startswith(_PREFIX):  # of state
            super()._note_output(raw, dropped)
            return
        text = repair(raw).lstrip()[len(PREFIX) :].strip()
        reply = self._events(text, is_cut=dropped > 0)
        if reply is None:
            return
        if self._answer is not None:
            self._answer(reply)
        elif self.output.error is None:
            self.output.error = NO_REPLIES  # the outcome
            self.say(NO_REPLIES)

    def _skip(self, stream: Stream, partial: Any, data: bytes) -> bool:
        return False  # no event is left out because the log is full
