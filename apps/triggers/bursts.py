"""Clocks that are due at the same moment take their turns in one transaction and a few statements,
as far as nothing but their jobs is to be started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from apps.jobs import services as jobs
from apps.jobs.database.sql import retried
from apps.jobs.flow.starting import Birth
from apps.triggers import dials, transitions
from apps.triggers.attempts import Attempt
from apps.triggers.models import Firing, Trigger
from apps.triggers.values import Turn
from engine import slots
from engine.errors import StroemError

MOST_STEPS = 100  # of a job
DECIDES = ("idempotency_key", "debounce", "force_refresh")


@dataclass(frozen=True, slots=True)
class Turned:
    """`again`: those with another slot that is due; `alone`: those that must decide something."""

    done: int
    again: list[int]
    alone: list[int]


@retried
def turn(trigger_ids: Sequence[int], now: datetime) -> Turned:
    """Deal with the next slot of each of these clocks that is due and in no other hands."""
    rows = [row for row in transitions.locked_if_due(trigger_ids, now) if row.next_slot]
    turns = {row.pk: _turn(row, now) for row in rows}
    due = {key: found.due.slot for key, found in turns.items() if found.due.slot is not None}
    births = _births([row for row in rows if row.pk in due], due, now)
    for key, job in zip(births, jobs.launch_all(list(births.values())), strict=True):
        turns[key] = replace(turns[key], job=job.id)
    done = [found for key, found in turns.items() if key in births or key not in due]
    transitions.write_turns(done, now)
    return Turned(
        len(done),
        [found.trigger_id for found in done if found.at is not None and found.at <= now],
        [key for key in due if key not in births],
    )


def _turn(trigger: Trigger, now: datetime) -> Turn:
    clock = dials.clock_of(trigger)
    assert trigger.next_slot is not None
    due = slots.due(clock, trigger.next_slot, now)
    return Turn(trigger.pk, due, due.next + clock.offset if due.next else None)


def _births(
    triggers: Sequence[Trigger], due: dict[int, datetime], now: datetime
) -> dict[int, Birth]:
    """By trigger, the jobs to start for these slots; without what is to be decided, or refused."""
    in_turn = {
        row.pk: f"{row.workspace.name}/{row.name}"
        for row in triggers
        if row.definition["options"].get("concurrency", "allow") != "allow"
    }
    waits = transitions.fired(due) if due else set()
    if in_turn:
        waits |= transitions.busy(in_turn)
    found = {}
    for row in triggers:
        birth = None if row.pk in waits else _birth(row, due[row.pk], now)
        if birth is not None:
            found[row.pk] = birth
    return found


def _birth(trigger: Trigger, slot: datetime, now: datetime) -> Birth | None:
    if any(trigger.definition["options"].get(key) for key in DECIDES):
        return None
    occasion = dials.occasion_of(trigger, slot)
    try:
        birth = Attempt(trigger, occasion, Firing(trigger=trigger), now).prepare()
    except StroemError:
        return None  # its own turn says why
    is_plain = birth.plan.begins_plainly and len(birth.plan.nodes) <= MOST_STEPS
    return birth if is_plain else None
