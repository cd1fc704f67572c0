"""Events on their way from a consumer to the platform: one at a time, each until it is safe."""

from __future__ import annotations

from collections.abc import Callable

from apps.triggers.ledger import Emitted
from engine import events
from engine.events import Event
from workers.attempts import Attempt
from workers.door import OUTAGES, EventLedger

SHORTEST_S, LONGEST_S = 0.05, 1.0
AWAY = "the database does not answer"


class Emitter:
    """Takes the events of one attempt, in its slot's thread."""

    def __init__(self, ledger: EventLedger, attempt: Attempt, say: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._attempt = attempt
        self._say = say
        self._number = 0
        self._left = 0

    def __call__(self, text: str, *, is_cut: bool) -> str | None:
        """Wait until the event is safe, or the consumer must stop."""
        event = events.read(text, is_cut=is_cut)
        self._number += 1
        told = self._until_safe(event)
        if told is None:
            self._left += 1
            return None
        if event.problem:
            self._say(f"This event became a dead letter: {event.problem}")
        elif told.refused:
            self._say(f"The event was not taken: {told.refused}")
        return event.reply(told.refused) if event.wants_reply else None

    def close(self) -> None:
        """Say how many events nobody has: their script was not told that they were safe."""
        if self._left:
            self._say(
                f"{self._left} event(s) were printed but not stored before the consumer had to stop"
            )

    def _until_safe(self, event: Event) -> Emitted | None:
        pause_s, said = SHORTEST_S, ""
        while True:
            told = self._emit(event)
            if not told.waits:
                return told
            if self._attempt.stop.reason is not None:
                return None
            if told.waits != said and pause_s >= LONGEST_S:
                said = told.waits
                self._say(f"The next event waits: {said}")
            self._attempt.stop.wait(pause_s)
            pause_s = min(LONGEST_S, pause_s * 2)

    def _emit(self, event: Event) -> Emitted:
        if self._attempt.stop.reason == "lost":
            return Emitted(waits="its lease is lost")
        try:
            return self._ledger.emit(self._attempt.claim, self._number, event)
        except OUTAGES:
            return Emitted(waits=AWAY)
        finally:
            self._ledger.released()
