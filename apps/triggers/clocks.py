"""Clocks: how they are set, and what they do when they are due. No scheduler leads: whoever inserts
the row of a slot starts its job."""

from __future__ import annotations

import logging
import threading
from datetime import datetime, timedelta

from django.db import DatabaseError, close_old_connections

from apps.jobs.database.sql import fetch_one, retried
from apps.triggers import firing, transitions
from apps.triggers.firing import Occasion
from apps.triggers.models import Firing, Trigger
from apps.workspaces.fetches import never_wait
from engine import slots
from engine.errors import StroemError
from engine.slots import Clock

log = logging.getLogger("stroem.triggers")
BATCH = 1000
LOOK_S, AGAIN_S = 1.0, 0.1
WAIT = """
SELECT extract(epoch FROM min(next_at) - clock_timestamp()) FROM triggers_trigger
WHERE next_at IS NOT NULL
"""


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


def wind(trigger: Trigger, now: datetime) -> None:
    """Set the clock to its first slot after `now`, or stop it if the trigger does not fire."""
    slot = None
    if trigger.kind == "scheduler" and trigger.is_live:
        slot = slots.after(clock_of(trigger), now)
    _set(trigger, slot)


def _set(trigger: Trigger, slot: datetime | None, last: datetime | None = None) -> None:
    at = slot + clock_of(trigger).offset if slot else None
    transitions.set_clock(trigger.pk, slot, at, last)


def fire_due(now: datetime) -> int:
    """Fire every clock that is due; returns how many slots were dealt with."""
    done = 0
    for trigger_id in transitions.due_clocks(now, BATCH):
        try:
            while _turn(trigger_id, now):
                done += 1
        except (DatabaseError, StroemError) as error:
            log.warning("trigger %s: %s", trigger_id, error)
            close_old_connections()
        except Exception as error:  # an outer edge: one broken clock must not stop the others
            log.exception("trigger %s failed", trigger_id)
            reason = f"the server failed ({type(error).__name__}); see its log"
            transitions.set_aside(trigger_id, reason, now)
    return done


@retried
def _turn(trigger_id: int, now: datetime) -> bool:
    """Deal with the next slot of one clock; False if it is not due, or in other hands."""
    trigger = transitions.locked_if_due(trigger_id, now)
    if trigger is None or trigger.next_slot is None:
        return False
    clock = clock_of(trigger)
    due = slots.due(clock, trigger.next_slot, now)
    if due.missed is not None:
        transitions.write_missed(trigger.pk, due.missed, now)
    if due.slot is not None:
        firing.fire_locked(trigger, occasion_of(trigger, due.slot), now)
    _set(trigger, due.next, due.slot)
    return True


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


def run(stop: threading.Event) -> None:
    """Fire clocks to the second until `stop` is set, whatever else the scheduler is busy with."""
    never_wait()  # for the secrets of one workspace
    while not stop.is_set():
        wait_s = LOOK_S
        try:
            fire_due(transitions.database_now())
            wait_s = _wait_s()
        except (DatabaseError, StroemError) as error:
            log.warning("clocks: %s", error)
        except Exception:  # an outer edge: nobody would miss the thread
            log.exception("the clocks failed; they go on")
        close_old_connections()
        stop.wait(wait_s)


def _wait_s() -> float:
    """Until the next slot, or the next look for changes. What is due now is in other hands, or
    failed: it is looked at again after a moment."""
    found = fetch_one(WAIT, ())
    until = float(found[0]) if found and found[0] is not None else LOOK_S
    return until if 0 < until < LOOK_S else LOOK_S if until > 0 else AGAIN_S
