"""Rules for the consumer of an event source: when it starts, stops, and starts again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Policy = Literal["always", "on_failure", "never"]
NEW_FILES = "A new revision of the workspace: the source starts again on its files"
AFTER_SUCCESS_S = 1.0
LONGEST_WAIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Consumer:
    """The last consumer. `is_stopping`: the platform has told it to stop. `is_lost`: it ended with
    its worker."""

    revision_id: int
    is_open: bool
    is_stopping: bool = False
    has_failed: bool = False
    is_lost: bool = False
    is_noted: bool = False  # what follows from its end was written
    ran_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Source:
    """What the rows say. `unwanted`: why no consumer should run; `failures`: in a row."""

    policy: Policy
    backoff_s: float
    revision_id: int | None
    consumer: Consumer | None = None
    unwanted: str = ""
    failures: int = 0
    is_resting: bool = False  # it ended, and its policy starts no other
    is_due: bool = True


@dataclass(frozen=True, slots=True)
class Start:
    pass


@dataclass(frozen=True, slots=True)
class Stop:
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """What follows from an end: another one in `wait_s` seconds, or none (None)."""

    failures: int
    wait_s: float | None


def decide(source: Source) -> Start | Stop | Note | None:
    """The next thing to do; None while all is as it should be."""
    last = source.consumer
    is_outdated = last is not None and last.revision_id != source.revision_id
    if last is not None and last.is_open:
        reason = source.unwanted or (NEW_FILES if is_outdated else "")
        return Stop(reason) if reason and not last.is_stopping else None
    if last is not None and not last.is_noted:
        return _after(source, last)
    if source.unwanted or source.revision_id is None:
        return Note(0, 0.0) if source.is_resting else None  # it may start once it is wanted
    if source.is_resting:
        return Start() if is_outdated else None
    return Start() if source.is_due else None


def _after(source: Source, last: Consumer) -> Note:
    if last.is_stopping:
        return Note(0, 0.0)
    if last.has_failed and (source.policy != "never" or last.is_lost):
        failures = 1 if last.ran_s > LONGEST_WAIT_S else source.failures + 1
        return Note(failures, back_off_s(source.backoff_s, failures))
    return Note(0, AFTER_SUCCESS_S if source.policy == "always" else None)


def back_off_s(first_s: float, failures: int) -> float:
    """Doubles with each failure in a row."""
    return min(first_s * 2.0 ** min(failures - 1, 30), LONGEST_WAIT_S)
