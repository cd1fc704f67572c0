"""Why a trigger fires: what its templates read, kept encrypted with a firing that waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from apps.triggers.models import Firing, Trigger
from apps.workspaces.sealing import seal, unseal
from engine.lifecycle import FiringStatus

UNTOUCHED = "waits its turn"  # the end of a job left it; nothing was decided yet


@dataclass(frozen=True, slots=True)
class Occasion:
    """Why a trigger fires. `context` is what its templates read, `given` are values beside its
    `input:`, which wins; `allow_unknown`: they need not be declared."""

    cause: Firing.Cause
    context: Mapping[str, Any] = field(default_factory=dict, repr=False)
    slot: datetime | None = None
    key: str = ""
    by: str = ""
    user_id: int | None = None
    given: Mapping[str, Any] = field(default_factory=dict, repr=False)
    allow_unknown: bool = False
    hidden: tuple[str, ...] = field(default=(), repr=False)  # secret values in the context

    @property
    def is_by_hand(self) -> bool:
        return self.cause == Firing.Cause.HAND


def sealed(occasion: Occasion) -> bytes:
    """The occasion, encrypted."""
    kept = {
        "context": dict(occasion.context),
        "given": dict(occasion.given),
        "user_id": occasion.user_id,
        "allow_unknown": occasion.allow_unknown,
        "hidden": list(occasion.hidden),
    }
    return seal(kept)


def opened(row: Firing) -> Occasion:
    """The occasion that was sealed with a firing."""
    kept = unseal(row.sealed or b"")
    return Occasion(
        Firing.Cause(row.cause),
        kept["context"],
        row.slot,
        row.key,
        row.by,
        kept["user_id"],
        kept["given"],
        kept["allow_unknown"],
        tuple(kept["hidden"]),
    )


def waiting_row(trigger: Trigger, occasion: Occasion, now: datetime, reason: str) -> Firing:
    """A firing that waits, not written yet; its occasion is sealed with it."""
    return Firing(
        trigger=trigger,
        cause=occasion.cause,
        slot=occasion.slot,
        key=occasion.key,
        by=occasion.by,
        status=FiringStatus.WAITING,
        reason=reason,
        due_at=now,
        sealed=sealed(occasion),
    )


def is_readable(row: Firing) -> bool:
    """Whether a dead letter is an event, and no line that could not be read."""
    return row.sealed is not None and "event" in opened(row).context
