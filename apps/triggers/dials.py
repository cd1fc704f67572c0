"""What a clock is set to, and what its templates read when it fires."""

from __future__ import annotations

from datetime import datetime, timedelta

from apps.triggers.models import Firing, Trigger
from apps.triggers.occasions import Occasion
from engine import slots
from engine.slots import Clock


def clock_of(trigger: Trigger) -> Clock:
    options = trigger.definition["options"]
    name = f"{trigger.workspace.name}/{trigger.name}"
    return Clock(
        options["cron"],
        options["timezone"],
        # frozen by an older version: without these
        options.get("catch_up", "last"),
        timedelta(seconds=options.get("catch_up_window", 86_400)),
        slots.share_of_jitter(name, options.get("jitter", 0)),
    )


def occasion_of(trigger: Trigger, slot: datetime) -> Occasion:
    return Occasion(Firing.Cause.SLOT, times_of(trigger, slot), slot=slot)


def times_of(trigger: Trigger, slot: datetime) -> dict[str, str | None]:
    """What templates read: the slot, and the one fired before it, in the trigger's time zone."""
    zone = slots.zone_of(clock_of(trigger))
    previous = trigger.last_slot
    return {
        "scheduled_at": slot.astimezone(zone).isoformat(),
        "previous_at": previous.astimezone(zone).isoformat() if previous else None,
    }
