"""Fires a trigger: renders its input and starts the job, in one transaction with the record of it.

A slot or a key exists once per trigger, so every occasion starts at most one job, however many
processes report it.
"""

from __future__ import annotations

from datetime import datetime

from apps.audit.services import note
from apps.jobs.database.sql import retried
from apps.triggers import abroad, transitions
from apps.triggers.attempts import DEALT_WITH, Attempt
from apps.triggers.errors import NotListed
from apps.triggers.models import Firing, Trigger
from apps.triggers.occasions import UNTOUCHED, Occasion, opened
from engine.errors import NotFound, StaleMove, StroemError
from engine.lifecycle import FiringEventKind, FiringStatus


def fire(trigger_id: int, occasion: Occasion) -> Firing:
    """What becomes of this occasion: a job, a wait, or the reason why there is none. The same slot
    or key again brings the first one. Raises NotFound, and NotListed for a trigger that is gone."""
    return fire_or_find(trigger_id, occasion)[0]


def fire_or_find(trigger_id: int, occasion: Occasion) -> tuple[Firing, bool]:
    """The same, and whether this slot or key had been dealt with before."""
    found, is_repeat = _fire(trigger_id, occasion)
    found.refresh_from_db()
    return found, is_repeat


@retried
def _fire(trigger_id: int, occasion: Occasion) -> tuple[Firing, bool]:
    trigger = transitions.locked(trigger_id)
    if trigger is None:
        raise NotFound(f"Trigger {trigger_id} not found")
    if not trigger.is_listed:
        raise NotListed(
            f"The files of workspace '{trigger.workspace}' do not have trigger"
            f" '{trigger.name}' any more"
        )
    first = _first(trigger, occasion)
    if first is not None:
        return first, True
    row = fire_locked(trigger, occasion, transitions.database_now())
    if occasion.cause == Firing.Cause.HAND:
        told = f"job {row.job_id}" if row.job_id else row.reason
        where = trigger.workspace.name
        note("trigger.fire", trigger.name, by=occasion.by, workspace=where, detail=told)
    return row, False


def fire_locked(trigger: Trigger, occasion: Occasion, now: datetime) -> Firing:
    """The same, with the trigger locked in the open transaction."""
    first = _first(trigger, occasion)
    if first is not None:
        return first
    row = Firing(
        trigger=trigger, cause=occasion.cause, slot=occasion.slot, key=occasion.key, by=occasion.by
    )
    attempt = Attempt(trigger, occasion, row, now)
    attempt.begin()
    return attempt.row


def _first(trigger: Trigger, occasion: Occasion) -> Firing | None:
    rows = Firing.objects.filter(trigger=trigger)
    if occasion.slot is not None:
        return rows.filter(slot=occasion.slot).first()
    return rows.filter(key=occasion.key).first() if occasion.key else None


@retried
def resume(firing_id: int, trigger_id: int, now: datetime) -> bool:
    """Go on with a firing that waited; False if it waits still."""
    trigger = transitions.locked(trigger_id)
    row = Firing.objects.filter(pk=firing_id, status=FiringStatus.WAITING).first()
    if trigger is None or row is None or row.sealed is None:
        return False
    if not trigger.is_live:
        reason = "the trigger was paused, disabled or removed while this waited"
        return transitions.move(row, FiringEventKind.SKIPPED, reason=reason)
    occasion = opened(row)
    if trigger.watched and (why := abroad.refusal_of(trigger)):
        transitions.note_refused(trigger.pk, why, now)
        return transitions.move(row, FiringEventKind.REFUSED, reason=why)
    if row.cause == Firing.Cause.JOB and row.reason == UNTOUCHED:
        row.delete()  # from here on as if the job had ended just now
        fire_locked(trigger, occasion, now)
        return True
    return Attempt(trigger, occasion, row, now).go_on()


def bury(trigger: Trigger, occasion: Occasion, reason: str, now: datetime) -> None:
    """Keep an event of which no job can be made, with its trigger locked in the open
    transaction."""
    row = Firing(trigger=trigger, cause=occasion.cause, key=occasion.key)
    Attempt(trigger, occasion, row, now).refuse(StroemError(reason))


def send_again(trigger: Trigger, row: Firing, by: str, now: datetime) -> None:
    """Make a job of a dead letter, with its trigger locked in the open transaction."""
    if not transitions.move(row, FiringEventKind.SENT_AGAIN, keeps=True):
        raise StaleMove(DEALT_WITH)
    row.by = by
    row.save(update_fields=["by"])
    Attempt(trigger, opened(row), row, now).go_on()
