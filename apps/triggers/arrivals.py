"""Events that consumers print: each becomes a job or a dead letter, in one transaction."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from django.db import DataError

from apps.audit.services import note
from apps.jobs.database.sql import fetch, fetch_one, retried
from apps.jobs.values import Claim
from apps.triggers import firing, occasions, transitions
from apps.triggers.models import Firing, Trigger
from apps.triggers.occasions import Occasion
from apps.triggers.snapshots import IN_FLIGHT
from apps.workspaces.errors import SecretsPending
from engine.errors import Conflict, NotFound
from engine.events import Event
from engine.lifecycle import FiringEventKind, FiringStatus

MOST_DEAD = 1000  # dead letters of a source, before it waits for a person
# The source that this consumer serves, while its attempt is held and its trigger is there.
SOURCE = """
SELECT t.id FROM triggers_source s JOIN triggers_trigger t ON t.id = s.trigger_id
WHERE s.consumer_id = %(job)s AND t.is_listed AND EXISTS (
    SELECT 1 FROM jobs_attempt a WHERE a.id = %(attempt)s AND a.fence = %(fence)s
        AND a.ended_at IS NULL AND a.lease_until > clock_timestamp())
FOR NO KEY UPDATE OF t
"""
DEAD = """
SELECT count(*) FROM (SELECT 1 FROM triggers_firing WHERE trigger_id = %s AND status = 'dead'
    LIMIT %s) found
"""
COUNT = """
UPDATE triggers_source SET events = events + 1, failures = 0, last_event_at = clock_timestamp()
WHERE trigger_id = %s
"""


@dataclass(frozen=True, slots=True)
class Emitted:
    """`waits`: why it is not taken yet; `refused`: why it never will be. Neither: it is safe."""

    waits: str = ""
    refused: str = ""


def take(claim: Claim, number: int, event: Event) -> Emitted:
    try:
        return _take(claim, number, event)
    except SecretsPending:
        return Emitted(waits="the secrets of the workspace cannot be read at the moment")
    except DataError as error:  # one event must not end its consumer again and again
        problem = f"the database cannot hold it ({type(error).__name__})"
        text = json.dumps(dict(event.payload))
        return _take(claim, number, replace(event, payload={}, text=text, problem=problem))


@retried
def _take(claim: Claim, number: int, event: Event) -> Emitted:
    params = {"job": claim.job_id, "attempt": claim.attempt_id, "fence": claim.fence}
    found = fetch_one(SOURCE, params)
    if found is None:
        return Emitted(refused="this is not the consumer of the source any more")
    trigger = Trigger.objects.select_related("workspace").get(pk=found[0])
    key = f"id:{event.id}" if event.id else f"{claim.name}:{number}"
    if Firing.objects.filter(trigger=trigger, key=key).exists():
        return Emitted(refused=event.problem)
    waits = _full(trigger)
    if waits:
        return Emitted(waits=waits)
    now = transitions.database_now()
    if event.problem:
        firing.bury(trigger, _occasion(key, {"text": event.text}), event.problem, now)
    else:
        firing.fire_locked(trigger, _occasion(key, {"event": dict(event.payload)}), now)
    fetch(COUNT, (trigger.pk,))
    return Emitted(refused=event.problem)


def _occasion(key: str, context: dict[str, object]) -> Occasion:
    given = context.get("event")
    return Occasion(
        Firing.Cause.EVENT,
        context,
        key=key,
        given=given if isinstance(given, dict) else {},
        allow_unknown=True,
    )


def _full(trigger: Trigger) -> str:
    """Why the source takes no event now; empty if it does."""
    most = trigger.definition["options"].get("max_in_flight")
    if most is not None and in_flight(trigger, most) >= most:
        return f"{most} job(s) of earlier events are open (max_in_flight)"
    if dead_letters(trigger.pk, MOST_DEAD) >= MOST_DEAD:
        return f"{MOST_DEAD} dead letters wait to be sent again or discarded"
    return ""


def in_flight(trigger: Trigger, most: int) -> int:
    """Open jobs of earlier events, counted up to `most`. A run that retries one of them counts."""
    source_id = f"{trigger.workspace.name}/{trigger.name}"
    found = fetch_one(IN_FLIGHT, {"source": source_id, "most": most})
    return int(found[0]) if found else 0


def dead_letters(trigger_id: int, most: int) -> int:
    found = fetch_one(DEAD, (trigger_id, most))
    return int(found[0]) if found else 0


def send_again(trigger_id: int, firing_id: int, *, by: str) -> Firing:
    """Make a job of a dead letter, now that its cause was mended. Raises NotFound, and Conflict if
    it is none any more or never was a readable event."""
    _send_again(trigger_id, firing_id, by)
    return Firing.objects.get(pk=firing_id)


@retried
def _send_again(trigger_id: int, firing_id: int, by: str) -> None:
    trigger, row = _found(trigger_id, firing_id)
    if not trigger.is_listed:
        raise Conflict(f"The files do not have trigger '{trigger.name}' any more")
    if not occasions.is_readable(row):
        raise Conflict("This line is no event, so no job can be made of it; discard it")
    firing.send_again(trigger, row, by, transitions.database_now())
    _note("trigger.send-again", trigger, firing_id, by)


@retried
def discard(trigger_id: int, firing_id: int, *, by: str) -> Firing:
    """Forget a dead letter. Raises NotFound and Conflict."""
    trigger, row = _found(trigger_id, firing_id)
    if not transitions.move(row, FiringEventKind.DISCARDED, reason=f"discarded by {by}"):
        raise Conflict("It is no dead letter any more")
    _note("trigger.discard", trigger, firing_id, by)
    row.refresh_from_db()
    return row


def _note(act: str, trigger: Trigger, firing_id: int, by: str) -> None:
    where, told = trigger.workspace.name, f"dead letter {firing_id}"
    note(act, trigger.name, by=by, workspace=where, detail=told)


def _found(trigger_id: int, firing_id: int) -> tuple[Trigger, Firing]:
    trigger = transitions.locked(trigger_id)
    row = Firing.objects.filter(pk=firing_id, trigger_id=trigger_id).first()
    if trigger is None or row is None:
        raise NotFound(f"Dead letter {firing_id} not found")
    if row.status != FiringStatus.DEAD:
        raise Conflict("It is no dead letter any more")
    return trigger, row
