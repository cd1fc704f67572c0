"""Clocks: how they are set, and what they do when they are due. No scheduler leads: whoever inserts
the row of a slot starts its job."""

from __future__ import annotations

import logging
import threading
from datetime import datetime

from django.db import DatabaseError, close_old_connections

from apps.jobs.database.sql import fetch_one, retried
from apps.triggers import bursts, dials, firing, transitions
from apps.triggers.models import Trigger
from apps.workspaces.fetches import never_wait
from engine import slots
from engine.errors import StroemError

log = logging.getLogger("stroem.triggers")
BATCH, AT_ONCE = 1000, 100
LOOK_S, AGAIN_S = 1.0, 0.1
WAIT = """
SELECT extract(epoch FROM min(next_at) - clock_timestamp()) FROM triggers_trigger
WHERE next_at IS NOT NULL
"""


def wind(trigger: Trigger, now: datetime) -> None:
    """Set the clock to its first slot after `now`, or stop it if the trigger does not fire."""
    slot = None
    if trigger.kind == "scheduler" and trigger.is_live:
        slot = slots.after(dials.clock_of(trigger), now)
    _set(trigger, slot)


def _set(trigger: Trigger, slot: datetime | None, last: datetime | None = None) -> None:
    at = slot + dials.clock_of(trigger).offset if slot else None
    transitions.set_clock(trigger.pk, slot, at, last)


def fire_due(now: datetime) -> int:
    """Fire every clock that is due; returns how many slots were dealt with."""
    found = transitions.due_clocks(now, BATCH)
    return sum(
        _fire_all(found[start : start + AT_ONCE], now) for start in range(0, len(found), AT_ONCE)
    )


def _fire_all(trigger_ids: list[int], now: datetime) -> int:
    """Most clocks take their turns together. One that needs a decision, or whose turn fails, takes
    its own, and stops no other."""
    done, alone = 0, list[int]()
    while trigger_ids:
        try:
            turned = bursts.turn(trigger_ids, now)
        except (DatabaseError, StroemError) as error:
            log.warning("%d clocks take their turns one by one: %s", len(trigger_ids), error)
            close_old_connections()
            alone, trigger_ids = trigger_ids, []
        except Exception:  # an outer edge: the turn of the broken clock names it
            log.exception("%d clocks take their turns one by one", len(trigger_ids))
            alone, trigger_ids = trigger_ids, []
        else:
            done += turned.done
            alone += turned.alone
            trigger_ids = turned.again
    return done + sum(_fire_alone(trigger_id, now) for trigger_id in alone)


def _fire_alone(trigger_id: int, now: datetime) -> int:
    done = 0
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
    for trigger in transitions.locked_if_due([trigger_id], now):
        if trigger.next_slot is None:
            return False
        clock = dials.clock_of(trigger)
        due = slots.due(clock, trigger.next_slot, now)
        if due.missed is not None:
            transitions.write_missed(trigger.pk, due.missed, now)
        if due.slot is not None:
            firing.fire_locked(trigger, dials.occasion_of(trigger, due.slot), now)
        _set(trigger, due.next, due.slot)
        return True
    return False


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
