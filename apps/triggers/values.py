"""What people see of an event source, and a turn of a clock. Nothing here queries the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from engine.slots import Due

MOST = 1000  # counted


@dataclass(frozen=True, slots=True)
class SourceState:
    """`state`: running, waiting (for a worker), stopping, restarting, resting or off. `restarts`
    counts all; `failures` those in a row. `in_flight` and `dead_letters` are counted up to MOST."""

    state: str
    worker: str
    consumer_id: UUID | None
    restarts: int
    failures: int
    events: int  # stored ones
    in_flight: int
    dead_letters: int
    error: str
    next_at: datetime | None
    last_event_at: datetime | None

    @property
    def words(self) -> str:
        """In a few words, without what is zero."""
        said = [self.state + (f" on {self.worker}" if self.worker else "")]
        for count, one, many in (
            (self.events, "event", "events"),
            (self.in_flight, "in flight", "in flight"),
            (self.restarts, "restart", "restarts"),
            (self.dead_letters, "dead letter", "dead letters"),
        ):
            if count:
                said.append(f"{count}{'+' if count == MOST else ''} {one if count == 1 else many}")
        return ", ".join(said)


@dataclass(frozen=True, slots=True)
class Turn:
    """What becomes of a clock that was due. `at`: when its next slot fires; `job`: that of the
    slot that is due, if there is one."""

    trigger_id: int
    due: Due
    at: datetime | None
    job: UUID | None = None
